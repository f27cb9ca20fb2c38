"""Memory that one thread reuses for every view it renders."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ffcv_ssl.kernels.cpu.blur import BLOCK, SWEEP
from ffcv_ssl.kernels.cpu.resize import ROWS

ALIGNMENT = 64  # bytes of a cache line


class Scratch(NamedTuple):
    """Work arrays of the view kernel; float32 unless said otherwise. Zeroed at birth: padded taps read finite values."""

    tap_key: (
        np.ndarray
    )  # (6,) int64: what the taps were made for, and the most taps of the horizontal axis
    first_x: np.ndarray  # uint32, as the next
    count_x: np.ndarray
    weights_x: np.ndarray  # (width of the view, taps)
    first_y: np.ndarray
    count_y: np.ndarray
    weights_y: np.ndarray  # (height of the view, taps)
    line: np.ndarray  # one interleaved source row
    planes: np.ndarray  # (3 pixels of the view,)
    blurred: np.ndarray  # like `planes`
    levels: np.ndarray  # like `planes`, uint8
    taps: np.ndarray  # one side of the blur
    padded: np.ndarray  # a block of rows with reflected borders
    work: np.ndarray  # a block of rows


def max_taps(source: int, size: int) -> int:
    """Most source positions that one output position of any filter reads, and the padding behind them."""
    return 4 * max(-(-source // size), 1) + 2 + int(ROWS)


def make_scratch(source_size: tuple[int, int], view_sizes: Sequence[tuple[int, int]]) -> Scratch:
    """Allocate for images up to `source_size` and views of all `view_sizes`, each (height, width)."""
    (source_height, source_width), (heights, widths) = source_size, zip(*view_sizes, strict=True)
    height, width = max(heights), max(widths)
    taps_x, taps_y = max_taps(source_width, min(widths)), max_taps(source_height, min(heights))
    pixels = max(view_height * view_width for view_height, view_width in view_sizes)
    radius = max(height, width)  # a blur is narrower than the view
    block = max(BLOCK, width + 2 * radius)
    return Scratch(
        np.zeros(6, np.int64),
        _zeros((width,), np.uint32), _zeros((width,), np.uint32), _zeros((width, taps_x)),
        _zeros((height,), np.uint32), _zeros((height,), np.uint32), _zeros((height, taps_y)),
        _zeros((3 * (source_width + taps_x),)),
        _zeros((3 * pixels,)), _zeros((3 * pixels,)), _zeros((3 * pixels,), np.uint8),
        _zeros((radius + SWEEP,)), _zeros((block + 2 * radius * width,)), _zeros((block,)),
    )  # fmt: skip


def _zeros(shape: tuple[int, ...], dtype: type = np.float32) -> np.ndarray:
    """Return zeros that begin at a cache line."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    memory = np.zeros(size + ALIGNMENT, np.uint8)
    offset = -memory.ctypes.data % ALIGNMENT
    return memory[offset : offset + size].view(dtype).reshape(shape)
