"""Work arrays that one thread reuses for every view it renders."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ffcv_ssl.kernels.cpu.blur import BLOCK, SWEEP
from ffcv_ssl.kernels.cpu.resize import ROWS

ALIGNMENT = 64  # bytes of a cache line


class Scratch(NamedTuple):
    """Work arrays of the view kernel; float32 unless stated otherwise.

    They are initialized to zero, because padded taps read values that no kernel has written.
    """

    tap_key: NDArray[np.int64]  # (6,): sizes and filter of the taps, largest number of x taps
    first_x: NDArray[np.uint32]
    count_x: NDArray[np.uint32]
    weights_x: NDArray[np.float32]  # (width of the view, taps)
    first_y: NDArray[np.uint32]
    count_y: NDArray[np.uint32]
    weights_y: NDArray[np.float32]  # (height of the view, taps)
    line: NDArray[np.float32]  # one interleaved source row
    planes: NDArray[np.float32]  # (3 * pixels of the view,)
    blurred: NDArray[np.float32]  # like `planes`
    levels: NDArray[np.uint8]  # like `planes`, uint8
    taps: NDArray[np.float32]  # one side of the blur filter
    padded: NDArray[np.float32]  # a block of rows with reflected borders
    work: NDArray[np.float32]  # a block of rows


def max_taps(source: int, size: int) -> int:
    """Return an upper bound on the taps of an output position for any filter, with padding."""
    return 4 * max(-(-source // size), 1) + 2 + int(ROWS)


def make_scratch(source_size: tuple[int, int], view_sizes: Sequence[tuple[int, int]]) -> Scratch:
    """Allocate work arrays.

    Parameters
    ----------
    source_size
        (height, width) of the largest image, in pixels.
    view_sizes
        (height, width) of every kind of view, in pixels.

    Returns
    -------
    Scratch
        Arrays that begin at cache lines.
    """
    (source_height, source_width), (heights, widths) = source_size, zip(*view_sizes, strict=True)
    height, width = max(heights), max(widths)
    taps_x, taps_y = max_taps(source_width, min(widths)), max_taps(source_height, min(heights))
    pixels = max(view_height * view_width for view_height, view_width in view_sizes)
    radius = max(height, width)  # the blur radius is smaller than the view
    block = max(BLOCK, width + 2 * radius)
    return Scratch(
        tap_key=np.zeros(6, np.int64),
        first_x=_zeros((width,), np.uint32),
        count_x=_zeros((width,), np.uint32),
        weights_x=_zeros((width, taps_x)),
        first_y=_zeros((height,), np.uint32),
        count_y=_zeros((height,), np.uint32),
        weights_y=_zeros((height, taps_y)),
        line=_zeros((3 * (source_width + taps_x),)),
        planes=_zeros((3 * pixels,)),
        blurred=_zeros((3 * pixels,)),
        levels=_zeros((3 * pixels,), np.uint8),
        taps=_zeros((radius + SWEEP,)),
        padded=_zeros((block + 2 * radius * width,)),
        work=_zeros((block,)),
    )


def _zeros(shape: tuple[int, ...], dtype: type = np.float32) -> NDArray[Any]:
    """Return zeros that begin at a cache line."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    memory = np.zeros(size + ALIGNMENT, np.uint8)
    offset = -memory.ctypes.data % ALIGNMENT
    return memory[offset : offset + size].view(dtype).reshape(shape)
