"""Small views on the GPU: each block renders a whole view in shared memory, in one launch."""

import numpy as np
from numba import float32, int32

from ffcv_ssl.kernels import rows as col
from ffcv_ssl.kernels._types import Array, Bytes, Floats, Int, Integers
from ffcv_ssl.kernels.cuda._jit import cuda, cuda_kernel
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
    write_blurred,
    write_pixel,
)
from ffcv_ssl.kernels.scalar.blur import fill_weights, reflected
from ffcv_ssl.kernels.scalar.color import luma, rounded


def patch_shared_bytes(size: tuple[int, int], taps: int, radius: int) -> int:
    """Return the bytes of shared memory that `render_patches` uses."""
    height, width = size
    planes = (4 if radius else 3) * height * width
    return 4 * (planes + radius + 1 + (height + width) * (taps + 2) + 1)


@cuda_kernel
def render_patches(
    pixels: Bytes,
    sources: Integers,
    rows: Floats,
    lut: Array,
    height: Int,
    width: Int,
    taps: Int,
    max_radius: Int,
    plane_step: Int,
    pixel_step: Int,
    out: Array,
) -> None:
    """Render small views; the CUDA counterpart of `kernels.cpu.view.render_views`.

    Launch with `[(V, N), (x, y), stream, patch_shared_bytes(…)]`.

    Parameters
    ----------
    pixels
        (size,) uint8: source images, interleaved RGB.
    sources
        (N, V, 2) int64: offset of pixel (0, 0) of each view's image in `pixels`, and bytes per
        image row. If `pixels` holds only a part of the image, the offset may lie outside `pixels`;
        the part must contain all pixels that the views read.
    rows
        (N, V, NUM_COLUMNS) float32 kernel rows.
    lut
        (3, 256): the output value of each uint8, per channel; 16-bit floats as bit patterns.
    height, width
        Size of the views in pixels.
    taps
        Largest number of source positions of an output position (`launch.max_num_taps`).
    max_radius
        Largest blur radius of all rows.
    plane_step, pixel_step
        Steps in `out` from one channel to the next and from one pixel to the next, in elements.
    out
        (N * V * 3 * h * w,) of the dtype of `lut`; overwritten.
    """
    v, n = cuda.blockIdx.x, cuda.blockIdx.y
    row, height, width = rows[n, v], np.int32(height), np.int32(width)
    size = np.int32(height * width)
    memory, numbers = cuda.shared.array(0, float32), cuda.shared.array(0, int32)  # the same memory
    # Layout of the shared memory: three planes, a fourth plane if any view is blurred, the weights
    # of blur, rows and columns, then the integers.
    blurred_x = np.int32(3 * size)
    blur_weights = np.int32(blurred_x + (size if max_radius > 0 else 0))
    weights_y = np.int32(blur_weights + max_radius + 1)
    weights_x = np.int32(weights_y + height * taps)
    table_y = np.int32(weights_x + width * taps)
    table_x = np.int32(table_y + 2 * height)
    total = U32(table_x + 2 * width)

    resample, radius = np.int32(row[col.RESAMPLE]), np.int32(row[col.RADIUS])
    crop_height, crop_width = np.int32(row[col.HEIGHT]), np.int32(row[col.WIDTH])
    prepare_axis(
        resample, crop_height, height, 0, height, taps, memory, numbers, weights_y, table_y, height
    )
    prepare_axis(
        resample, crop_width, width, 0, width, taps, memory, numbers, weights_x, table_x, width
    )
    if thread_index() == 0:
        numbers[total] = 0
        if radius > 0:
            fill_weights(radius, row[col.FALLOFF], memory[blur_weights:])
    cuda.syncthreads()

    corner, stride = crop_corner(row, sources[n, v])
    flip = row[col.FLIP] != ZERO
    first_steps = steps_before_contrast(row)
    luma_sum = np.int32(0)
    for y in range(cuda.threadIdx.y, height, cuda.blockDim.y):
        line = corner + numbers[U32(table_y + y)] * stride
        count_y = numbers[U32(table_y + height + y)]
        for x in range(cuda.threadIdx.x, width, cuda.blockDim.x):
            column = np.int32(width - 1 - x if flip else x)
            offset = line + 3 * numbers[U32(table_x + column)]
            count_x = numbers[U32(table_x + width + column)]
            pixel_y, pixel_x = np.int32(weights_y + y * taps), np.int32(weights_x + column * taps)
            r, g, b = resample_pixel(
                pixels, offset, stride, memory, pixel_y, count_y, pixel_x, count_x
            )
            r, g, b = color_steps(r, g, b, row, 0, first_steps, ZERO)
            luma_sum = np.int32(luma_sum + np.int32(luma(r, g, b)))
            p = np.int32(y * width + x)
            memory[U32(p)], memory[U32(size + p)], memory[U32(2 * size + p)] = r, g, b
    mean = ZERO
    if first_steps < 4:
        cuda.atomic.add(numbers, total, luma_sum)
        cuda.syncthreads()
        mean = rounded(np.float32(numbers[total]) / np.float32(size))

    gray, threshold = row[col.GRAY] != ZERO, row[col.THRESHOLD]
    base = (np.int64(n) * rows.shape[1] + v) * 3 * size
    for y in range(cuda.threadIdx.y, height, cuda.blockDim.y):
        for x in range(cuda.threadIdx.x, width, cuda.blockDim.x):
            p = np.int32(y * width + x)
            r, g, b = memory[U32(p)], memory[U32(size + p)], memory[U32(2 * size + p)]
            r, g, b = color_steps(r, g, b, row, first_steps, 4, mean)
            if gray:
                r = luma(r, g, b)
                g, b = r, r
            if radius > 0:
                memory[U32(p)], memory[U32(size + p)], memory[U32(2 * size + p)] = r, g, b
            else:
                write_pixel(out, U64(base + p * pixel_step), plane_step, r, g, b, threshold, lut)
    if radius == 0:
        return
    for c in range(1 if gray else 3):
        plane = np.int32(c * size)
        cuda.syncthreads()
        for y in range(cuda.threadIdx.y, height, cuda.blockDim.y):
            for x in range(cuda.threadIdx.x, width, cuda.blockDim.x):
                line = np.int32(plane + y * width)
                value = memory[U32(blur_weights)] * memory[U32(line + x)]
                for t in range(1, radius + 1):
                    left = memory[U32(line + reflected(x - t, width))]
                    right = memory[U32(line + reflected(x + t, width))]
                    value += memory[U32(blur_weights + t)] * (left + right)
                memory[U32(blurred_x + y * width + x)] = value
        cuda.syncthreads()
        for y in range(cuda.threadIdx.y, height, cuda.blockDim.y):
            for x in range(cuda.threadIdx.x, width, cuda.blockDim.x):
                column = np.int32(blurred_x + x)
                value = memory[U32(blur_weights)] * memory[U32(column + y * width)]
                for t in range(1, radius + 1):
                    above = memory[U32(column + reflected(y - t, height) * width)]
                    below = memory[U32(column + reflected(y + t, height) * width)]
                    value += memory[U32(blur_weights + t)] * (above + below)
                offset = base + (y * width + x) * pixel_step
                write_blurred(out, offset, plane_step, value, c, gray, threshold, lut)
