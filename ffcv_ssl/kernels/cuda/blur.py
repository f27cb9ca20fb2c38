"""Gaussian blur of large views on the GPU, in tiles."""

import numpy as np
from numba import float32

from ffcv_ssl.kernels import rows as col
from ffcv_ssl.kernels._types import Array, Floats, Int, Integers
from ffcv_ssl.kernels.cuda._jit import cuda, cuda_kernel
from ffcv_ssl.kernels.cuda.device import (
    U32,
    ZERO,
    blurred_value,
    thread_index,
    write_blurred,
)
from ffcv_ssl.kernels.scalar.blur import fill_weights, reflected

BLUR_TILE = 32  # height and width


def blur_shared_bytes(radius: int) -> int:
    """Return the bytes of shared memory that `blur_views` uses."""
    padded = BLUR_TILE + 2 * radius
    return 4 * (padded * padded + padded * BLUR_TILE + radius + 1)


@cuda_kernel
def blur_views(
    sharp: Floats,
    blurred: Integers,
    rows: Floats,
    lut: Array,
    max_radius: Int,
    plane_step: Int,
    pixel_step: Int,
    out: Array,
) -> None:
    """Blur the views that `write_views` stored in `sharp` and write them to `out`.

    Launch with `[(K, tiles), (x, y), stream, blur_shared_bytes(max_radius)]`. Tiles have
    `BLUR_TILE` rows and columns.

    Parameters
    ----------
    sharp
        (K, 3, h, w) float32: views before the blur.
    blurred
        (K,) int32: index of each of these views among all N * V views.
    rows, lut, plane_step, pixel_step, out
        See `patches.render_patches`.
    max_radius
        Largest blur radius of all rows.
    """
    k = cuda.blockIdx.x
    height, width = np.int32(sharp.shape[2]), np.int32(sharp.shape[3])
    view = blurred[U32(k)]
    row = rows[U32(view // rows.shape[1]), U32(view % rows.shape[1])]
    radius = np.int32(row[col.RADIUS])
    tiles = (width + BLUR_TILE - 1) // BLUR_TILE
    top = np.int32(cuda.blockIdx.y // tiles * BLUR_TILE)
    left = np.int32(cuda.blockIdx.y % tiles * BLUR_TILE)
    memory = cuda.shared.array(0, float32)
    # Layout: a tile with its borders, the same tile blurred along x, then the weights.
    stride = np.int32(BLUR_TILE + 2 * max_radius)
    blurred_x = np.int32(stride * stride)
    blur_weights = np.int32(blurred_x + stride * BLUR_TILE)
    if thread_index() == 0:
        fill_weights(radius, row[col.FALLOFF], memory[blur_weights:])
    gray, threshold = row[col.GRAY] != ZERO, row[col.THRESHOLD]
    base = np.int64(view) * 3 * height * width
    lines = np.int32(min(np.int32(BLUR_TILE), height - top))
    columns = np.int32(min(np.int32(BLUR_TILE), width - left))
    for c in range(1 if gray else 3):
        for y in range(cuda.threadIdx.y, lines + 2 * radius, cuda.blockDim.y):
            for x in range(cuda.threadIdx.x, columns + 2 * radius, cuda.blockDim.x):
                from_y = reflected(top + y - radius, height)
                from_x = reflected(left + x - radius, width)
                memory[U32(y * stride + x)] = sharp[U32(k), U32(c), U32(from_y), U32(from_x)]
        cuda.syncthreads()
        for y in range(cuda.threadIdx.y, lines + 2 * radius, cuda.blockDim.y):
            for x in range(cuda.threadIdx.x, columns, cuda.blockDim.x):
                center = np.int32(y * stride + x + radius)
                value = blurred_value(memory, center, np.int32(1), radius, blur_weights)
                memory[U32(blurred_x + y * BLUR_TILE + x)] = value
        cuda.syncthreads()
        for y in range(cuda.threadIdx.y, lines, cuda.blockDim.y):
            for x in range(cuda.threadIdx.x, columns, cuda.blockDim.x):
                center = np.int32(blurred_x + (y + radius) * BLUR_TILE + x)
                value = blurred_value(memory, center, np.int32(BLUR_TILE), radius, blur_weights)
                offset = base + np.int32((top + y) * width + left + x) * pixel_step
                write_blurred(out, offset, plane_step, value, c, gray, threshold, lut)
