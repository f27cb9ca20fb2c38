"""Memory that one thread reuses for every view it renders."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Scratch(NamedTuple):
    """Work arrays of the view kernel; all float32 but the uint32 tap positions. Zeroed at birth: padded taps read finite values."""

    first_x: np.ndarray
    count_x: np.ndarray
    weights_x: np.ndarray  # (taps, width of the view)
    first_y: np.ndarray
    count_y: np.ndarray
    weights_y: np.ndarray  # (taps, height of the view)
    flat: np.ndarray  # one interleaved source row
    line: np.ndarray  # (3, source width + taps)
    planes: np.ndarray  # (3 pixels of the view,)
    blurred: np.ndarray  # like `planes`
    taps: np.ndarray  # one side of the blur
    padded: np.ndarray  # one row of the view with reflected borders


def max_taps(source: int, size: int) -> int:
    """Most source positions that one output position of any filter reads."""
    return 4 * max(-(-source // size), 1) + 2


def make_scratch(source_size: tuple[int, int], view_sizes: Sequence[tuple[int, int]]) -> Scratch:
    """Allocate for images up to `source_size` and views of all `view_sizes`, each (height, width)."""
    (source_height, source_width), (heights, widths) = source_size, zip(*view_sizes, strict=True)
    height, width = max(heights), max(widths)
    taps_x, taps_y = max_taps(source_width, min(widths)), max_taps(source_height, min(heights))
    pixels = max(view_height * view_width for view_height, view_width in view_sizes)
    floats, ints = np.float32, np.uint32  # unsigned positions need no check for negative ones
    return Scratch(
        np.zeros(width, ints), np.zeros(width, ints), np.zeros((taps_x, width), floats),
        np.zeros(height, ints), np.zeros(height, ints), np.zeros((taps_y, height), floats),
        np.zeros(3 * source_width, floats), np.zeros((3, source_width + taps_x), floats),
        np.zeros(3 * pixels, floats), np.zeros(3 * pixels, floats),
        np.zeros(max(height, width), floats), np.zeros(width + 2 * max(height, width), floats),
    )  # fmt: skip
