"""Views of any size on the GPU, in tiles: the means that contrast needs, the views, and the blur of those that have one."""

import numpy as np
from numba import cuda, float32, int32

from ffcv_ssl.kernels import rows as col
from ffcv_ssl.kernels.cuda.device import (
    U32,
    U64,
    ZERO,
    blurred_value,
    color_steps,
    crop_corner,
    finish_value,
    lane,
    prepare_axis,
    resample_pixel,
    steps_before_contrast,
)
from ffcv_ssl.kernels.scalar.blur import fill_weights, reflected
from ffcv_ssl.kernels.scalar.color import luma, rounded

BLUR_TILE = 32  # both sides


def view_shared(tile: tuple[int, int], taps: int) -> int:
    """Bytes of shared memory that `sum_luma` and `write_views` take for a tile of (height, width): an axis' weights are computed once."""
    return 4 * (sum(tile) * (taps + 2) + 1)


def blur_shared(radius: int) -> int:
    """Bytes of shared memory that `blur_views` takes."""
    padded = BLUR_TILE + 2 * radius
    return 4 * (padded * padded + padded * BLUR_TILE + radius + 1)


@cuda.jit(device=True)
def prepare_tile(row, height, width, top, left, taps, tile_height, tile_width):
    """Fill the tables of a tile in shared memory; return that memory, as floats and as integers."""
    memory, numbers = cuda.shared.array(0, float32), cuda.shared.array(0, int32)  # the same memory
    weights_x, table_y = tile_height * taps, (tile_height + tile_width) * taps
    resample = np.int32(row[col.RESAMPLE])
    bottom, right = min(top + tile_height, height), min(left + tile_width, width)
    prepare_axis(
        resample,
        np.int32(row[col.HEIGHT]),
        height,
        top,
        bottom,
        taps,
        memory,
        numbers,
        0,
        table_y,
        tile_height,
    )
    table_x = table_y + 2 * tile_height
    prepare_axis(
        resample,
        np.int32(row[col.WIDTH]),
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


@cuda.jit(device=True)
def tile_corner(width, tile_height, tile_width):
    """First row and column of the block's tile, in the order of the source: a flip is applied when pixels are stored."""
    tiles = (width + tile_width - 1) // tile_width
    return np.int32(cuda.blockIdx.x // tiles * tile_height), np.int32(
        cuda.blockIdx.x % tiles * tile_width
    )


@cuda.jit(device=True)
def tile_pixel(pixels, corner, stride, memory, numbers, taps, tile_height, tile_width, y, x):
    """Resample the pixel at row `y` and column `x` of a tile; `corner` is the byte where the view's crop begins."""
    table_y = np.int32((tile_height + tile_width) * taps)
    table_x = np.int32(table_y + 2 * tile_height)
    offset = corner + numbers[U32(table_y + y)] * stride + 3 * numbers[U32(table_x + x)]
    count_y, count_x = (
        numbers[U32(table_y + tile_height + y)],
        numbers[U32(table_x + tile_width + x)],
    )
    weights_x = np.int32((tile_height + x) * taps)
    return resample_pixel(
        pixels, offset, stride, memory, np.int32(y * taps), count_y, weights_x, count_x
    )


@cuda.jit
def sum_luma(pixels, sources, rows, height, width, taps, tile_height, tile_width, totals):
    """Add the luma of every view whose contrast changes, at the step before that, to `totals` (N, V) int32, which is 0 before.

    Launch with `[(tiles, V, N), (x, y), stream, view_shared((tile_height, tile_width), taps)]`; the other parameters are those of
    `patches.render_patches`.
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
    for y in range(cuda.threadIdx.y, min(tile_height, height - top), cuda.blockDim.y):
        for x in range(cuda.threadIdx.x, min(tile_width, width - left), cuda.blockDim.x):
            r, g, b = tile_pixel(
                pixels,
                corner,
                stride,
                memory,
                numbers,
                taps,
                tile_height,
                tile_width,
                np.int32(y),
                np.int32(x),
            )
            r, g, b = color_steps(r, g, b, row, 0, steps, ZERO)
            total = np.int32(total + np.int32(luma(r, g, b)))
    # Through shared memory: one addition to global memory per block.
    sums = U32((tile_height + tile_width) * (taps + 2))
    if lane() == 0:
        numbers[sums] = 0
    cuda.syncthreads()
    cuda.atomic.add(numbers, sums, total)
    cuda.syncthreads()
    if lane() == 0:
        cuda.atomic.add(totals, (n, v), numbers[sums])


@cuda.jit
def write_views(
    pixels,
    sources,
    rows,
    lut,
    height,
    width,
    taps,
    tile_height,
    tile_width,
    totals,
    slots,
    plane_step,
    pixel_step,
    sharp,
    out,
):
    """CUDA twin of `kernels.cpu.view.render_views`, up to the blur; launch as `sum_luma`.

    Parameters
    ----------
    totals
        What `sum_luma` gave.
    slots
        (N, V) int32: place in `sharp` of a view that is to be blurred, -1 for the others.
    sharp
        (K, 3, h, w) float32, views before the blur; overwritten.
    out
        As in `render_patches`; views that are to be blurred are not written.
    """
    v, n = cuda.blockIdx.y, cuda.blockIdx.z
    row, height, width, taps = rows[n, v], np.int32(height), np.int32(width), np.int32(taps)
    tile_height, tile_width = np.int32(tile_height), np.int32(tile_width)
    top, left = tile_corner(width, tile_height, tile_width)
    memory, numbers = prepare_tile(row, height, width, top, left, taps, tile_height, tile_width)
    corner, stride = crop_corner(row, sources[n, v])
    size = np.int32(height * width)
    mean = rounded(np.float32(totals[n, v]) / np.float32(size))
    flip, gray, threshold, slot = (
        row[col.FLIP] != ZERO,
        row[col.GRAY] != ZERO,
        row[col.THRESHOLD],
        slots[n, v],
    )
    base = (np.int64(n) * rows.shape[1] + v) * 3 * size
    for y in range(cuda.threadIdx.y, min(tile_height, height - top), cuda.blockDim.y):
        for x in range(cuda.threadIdx.x, min(tile_width, width - left), cuda.blockDim.x):
            r, g, b = tile_pixel(
                pixels,
                corner,
                stride,
                memory,
                numbers,
                taps,
                tile_height,
                tile_width,
                np.int32(y),
                np.int32(x),
            )
            r, g, b = color_steps(r, g, b, row, 0, 4, mean)
            if gray:
                r = luma(r, g, b)
                g, b = r, r
            target_y, target_x = U32(top + y), U32(width - 1 - left - x if flip else left + x)
            if slot >= 0:
                place = U32(slot)
                sharp[place, U32(0), target_y, target_x] = r
                sharp[place, U32(1), target_y, target_x] = g
                sharp[place, U32(2), target_y, target_x] = b
            else:
                place = U64(base + np.int32(target_y * width + target_x) * pixel_step)
                out[place] = finish_value(r, 0, threshold, lut)
                out[place + U64(plane_step)] = finish_value(g, 1, threshold, lut)
                out[place + U64(2 * plane_step)] = finish_value(b, 2, threshold, lut)


@cuda.jit
def blur_views(sharp, blurred, rows, lut, most_radius, plane_step, pixel_step, out):
    """Blur the views that `write_views` left in `sharp` (K, 3, h, w), and write them.

    Launch with `[(K, tiles), (x, y), stream, blur_shared(most_radius)]`, a tile being `BLUR_TILE` squared.

    Parameters
    ----------
    blurred
        (K,) int32: which view of the (N V,) each is.
    most_radius
        Largest blur radius of all rows.
    """
    k = cuda.blockIdx.x
    height, width = np.int32(sharp.shape[2]), np.int32(sharp.shape[3])
    view = blurred[U32(k)]
    row = rows[U32(view // rows.shape[1]), U32(view % rows.shape[1])]
    radius = np.int32(row[col.RADIUS])
    tiles = (width + BLUR_TILE - 1) // BLUR_TILE
    top, left = (
        np.int32(cuda.blockIdx.y // tiles * BLUR_TILE),
        np.int32(cuda.blockIdx.y % tiles * BLUR_TILE),
    )
    memory = cuda.shared.array(0, float32)
    # A tile with its borders, then the same blurred along x, then the weights.
    stride = np.int32(BLUR_TILE + 2 * most_radius)
    across = np.int32(stride * stride)
    gauss = np.int32(across + stride * BLUR_TILE)
    if lane() == 0:
        fill_weights(radius, row[col.FALLOFF], memory[gauss:])
    gray, threshold = row[col.GRAY] != ZERO, row[col.THRESHOLD]
    base = np.int64(view) * 3 * height * width
    lines, columns = np.int32(min(BLUR_TILE, height - top)), np.int32(min(BLUR_TILE, width - left))
    for c in range(1 if gray else 3):
        for y in range(cuda.threadIdx.y, lines + 2 * radius, cuda.blockDim.y):
            for x in range(cuda.threadIdx.x, columns + 2 * radius, cuda.blockDim.x):
                from_y, from_x = (
                    reflected(top + y - radius, height),
                    reflected(left + x - radius, width),
                )
                memory[U32(y * stride + x)] = sharp[U32(k), U32(c), U32(from_y), U32(from_x)]
        cuda.syncthreads()
        for y in range(cuda.threadIdx.y, lines + 2 * radius, cuda.blockDim.y):
            for x in range(cuda.threadIdx.x, columns, cuda.blockDim.x):
                value = blurred_value(
                    memory, np.int32(y * stride + x + radius), np.int32(1), radius, gauss
                )
                memory[U32(across + y * BLUR_TILE + x)] = value
        cuda.syncthreads()
        for y in range(cuda.threadIdx.y, lines, cuda.blockDim.y):
            for x in range(cuda.threadIdx.x, columns, cuda.blockDim.x):
                centre = np.int32(across + (y + radius) * BLUR_TILE + x)
                value = blurred_value(memory, centre, np.int32(BLUR_TILE), radius, gauss)
                place = base + np.int32((top + y) * width + left + x) * pixel_step
                if gray:
                    for channel in range(3):
                        out[U64(place + channel * plane_step)] = finish_value(
                            value, channel, threshold, lut
                        )
                else:
                    out[U64(place + c * plane_step)] = finish_value(value, c, threshold, lut)
