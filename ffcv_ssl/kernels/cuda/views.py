"""Views of any size on the GPU, rendered in tiles up to the blur.

Two kernels run: one sums the luma for the means that contrast needs, one renders the views.
"""

from typing import Any

import numpy as np
from numba import float32, int32

from ffcv_ssl.kernels import rows as col
from ffcv_ssl.kernels._types import Array, Bytes, Floats, Int, Integers
from ffcv_ssl.kernels.cuda._jit import cuda, cuda_kernel, device_function
from ffcv_ssl.kernels.cuda.device import (
    U32,
    U64,
    ZERO,
    color_steps,
    crop_corner,
    prepare_axis,
    resample_pixel,
    steps_before_contrast,
    thread_index,
    write_pixel,
)
from ffcv_ssl.kernels.scalar.color import RGB, luma, rounded


def view_shared_bytes(tile: tuple[int, int], taps: int) -> int:
    """Return the bytes of shared memory that `sum_luma` and `write_views` use for a tile.

    `tile` is (height, width) in pixels. The weights of each axis are computed once per tile.
    """
    return 4 * (sum(tile) * (taps + 2) + 1)


@device_function
def prepare_tile(
    row: Floats,
    height: Int,
    width: Int,
    top: Int,
    left: Int,
    taps: Int,
    tile_height: Int,
    tile_width: Int,
) -> tuple[Any, Any]:
    """Compute the taps of a tile in shared memory; return that memory as float32 and as int32."""
    memory, numbers = cuda.shared.array(0, float32), cuda.shared.array(0, int32)  # the same memory
    weights_x, table_y = tile_height * taps, (tile_height + tile_width) * taps
    resample = np.int32(row[col.RESAMPLE])
    crop_height, crop_width = np.int32(row[col.HEIGHT]), np.int32(row[col.WIDTH])
    bottom, right = min(top + tile_height, height), min(left + tile_width, width)
    prepare_axis(
        resample, crop_height, height, top, bottom, taps, memory, numbers, 0, table_y, tile_height
    )
    table_x = table_y + 2 * tile_height
    prepare_axis(
        resample,
        crop_width,
        width,
        left,
        right,
        taps,
        memory,
        numbers,
        weights_x,
        table_x,
        tile_width,
    )
    cuda.syncthreads()
    return memory, numbers


@device_function
def tile_corner(width: Int, tile_height: Int, tile_width: Int) -> tuple[Any, Any]:
    """Return the first row and column of the block's tile.

    Columns count in source order; a flip is applied when pixels are written.
    """
    tiles = (width + tile_width - 1) // tile_width
    top, left = cuda.blockIdx.x // tiles * tile_height, cuda.blockIdx.x % tiles * tile_width
    return np.int32(top), np.int32(left)


@device_function
def tile_pixel(
    pixels: Bytes,
    corner: Int,
    stride: Int,
    memory: Floats,
    numbers: Integers,
    taps: Int,
    tile_height: Int,
    tile_width: Int,
    y: Int,
    x: Int,
) -> RGB:
    """Resample the pixel at row `y` and column `x` of a tile.

    `corner` is the byte offset at which the view's crop begins.
    """
    table_y = np.int32((tile_height + tile_width) * taps)
    table_x = np.int32(table_y + 2 * tile_height)
    offset = corner + numbers[U32(table_y + y)] * stride + 3 * numbers[U32(table_x + x)]
    count_y = numbers[U32(table_y + tile_height + y)]
    count_x = numbers[U32(table_x + tile_width + x)]
    weights_y, weights_x = np.int32(y * taps), np.int32((tile_height + x) * taps)
    return resample_pixel(pixels, offset, stride, memory, weights_y, count_y, weights_x, count_x)


@cuda_kernel
def sum_luma(
    pixels: Bytes,
    sources: Integers,
    rows: Floats,
    height: Int,
    width: Int,
    taps: Int,
    tile_height: Int,
    tile_width: Int,
    totals: Integers,
) -> None:
    """Sum the luma of every view whose contrast changes, as it is before the contrast step.

    Launch with `[(tiles, V, N), (x, y), stream, view_shared_bytes((tile_height, tile_width),
    taps)]`.

    Parameters
    ----------
    pixels, sources, rows, height, width, taps
        See `patches.render_patches`.
    tile_height, tile_width
        Size of a tile in pixels.
    totals
        (N, V) int32 of zeros; the sums are added to it.
    """
    v, n = cuda.blockIdx.y, cuda.blockIdx.z
    row, height, width, taps = rows[n, v], np.int32(height), np.int32(width), np.int32(taps)
    tile_height, tile_width = np.int32(tile_height), np.int32(tile_width)
    steps = steps_before_contrast(row)
    if steps == 4:
        return
    top, left = tile_corner(width, tile_height, tile_width)
    memory, numbers = prepare_tile(row, height, width, top, left, taps, tile_height, tile_width)
    corner, stride = crop_corner(row, sources[n, v])
    total = np.int32(0)
    for tile_y in range(cuda.threadIdx.y, min(tile_height, height - top), cuda.blockDim.y):
        for tile_x in range(cuda.threadIdx.x, min(tile_width, width - left), cuda.blockDim.x):
            y, x = np.int32(tile_y), np.int32(tile_x)
            r, g, b = tile_pixel(
                pixels, corner, stride, memory, numbers, taps, tile_height, tile_width, y, x
            )
            r, g, b = color_steps(r, g, b, row, 0, steps, ZERO)
            total = np.int32(total + np.int32(luma(r, g, b)))
    # Sum in shared memory first, so that each block adds to global memory only once.
    block_sum = U32((tile_height + tile_width) * (taps + 2))
    if thread_index() == 0:
        numbers[block_sum] = 0
    cuda.syncthreads()
    cuda.atomic.add(numbers, block_sum, total)
    cuda.syncthreads()
    if thread_index() == 0:
        cuda.atomic.add(totals, (n, v), numbers[block_sum])


@cuda_kernel
def write_views(
    pixels: Bytes,
    sources: Integers,
    rows: Floats,
    lut: Array,
    height: Int,
    width: Int,
    taps: Int,
    tile_height: Int,
    tile_width: Int,
    totals: Integers,
    slots: Integers,
    plane_step: Int,
    pixel_step: Int,
    sharp: Floats,
    out: Array,
) -> None:
    """Render views up to the blur; the CUDA counterpart of `kernels.cpu.view.render_views`.

    Launch like `sum_luma`.

    Parameters
    ----------
    pixels, sources, rows, lut, height, width, taps, plane_step, pixel_step
        See `patches.render_patches`.
    tile_height, tile_width
        Size of a tile in pixels.
    totals
        (N, V) int32: the result of `sum_luma`.
    slots
        (N, V) int32: index in `sharp` of each view that will be blurred; -1 for the others.
    sharp
        (K, 3, h, w) float32: views before the blur; overwritten.
    out
        As in `render_patches`. Views that will be blurred are not written.
    """
    v, n = cuda.blockIdx.y, cuda.blockIdx.z
    row, height, width, taps = rows[n, v], np.int32(height), np.int32(width), np.int32(taps)
    tile_height, tile_width = np.int32(tile_height), np.int32(tile_width)
    top, left = tile_corner(width, tile_height, tile_width)
    memory, numbers = prepare_tile(row, height, width, top, left, taps, tile_height, tile_width)
    corner, stride = crop_corner(row, sources[n, v])
    size = np.int32(height * width)
    mean = rounded(np.float32(totals[n, v]) / np.float32(size))
    flip, gray = row[col.FLIP] != ZERO, row[col.GRAY] != ZERO
    threshold, slot = row[col.THRESHOLD], slots[n, v]
    base = (np.int64(n) * rows.shape[1] + v) * 3 * size
    for tile_y in range(cuda.threadIdx.y, min(tile_height, height - top), cuda.blockDim.y):
        for tile_x in range(cuda.threadIdx.x, min(tile_width, width - left), cuda.blockDim.x):
            y, x = np.int32(tile_y), np.int32(tile_x)
            r, g, b = tile_pixel(
                pixels, corner, stride, memory, numbers, taps, tile_height, tile_width, y, x
            )
            r, g, b = color_steps(r, g, b, row, 0, 4, mean)
            if gray:
                r = luma(r, g, b)
                g, b = r, r
            target_y = U32(top + tile_y)
            target_x = U32(width - 1 - left - tile_x if flip else left + tile_x)
            if slot >= 0:
                index = U32(slot)
                sharp[index, U32(0), target_y, target_x] = r
                sharp[index, U32(1), target_y, target_x] = g
                sharp[index, U32(2), target_y, target_x] = b
            else:
                offset = U64(base + np.int32(target_y * width + target_x) * pixel_step)
                write_pixel(out, offset, plane_step, r, g, b, threshold, lut)
