"""Small views on the GPU: a block renders a whole view in shared memory, one launch for all views of a batch."""

import numpy as np
from numba import cuda, float32, int32

from ffcv_ssl.kernels import rows as col
from ffcv_ssl.kernels.cuda.device import (
    U32,
    U64,
    ZERO,
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


def patch_shared(size: tuple[int, int], taps: int, radius: int) -> int:
    """Bytes of shared memory that `render_patches` takes."""
    height, width = size
    planes = (4 if radius else 3) * height * width
    return 4 * (planes + radius + 1 + (height + width) * (taps + 2) + 1)


@cuda.jit
def render_patches(
    pixels, sources, rows, lut, height, width, taps, most_radius, plane_step, pixel_step, out
):
    """CUDA twin of `kernels.cpu.view.render_views` for small views; launch with `[(V, N), (x, y), stream, patch_shared(…)]`.

    Parameters
    ----------
    pixels
        (size,) uint8: source images, RGB interleaved.
    sources
        (N, V, 2) int64: where pixel (0, 0) of the image of each view lies in `pixels`, and bytes from one of its rows to the next. Where
        only a part of the image is there, the first may lie outside: what the views read must be there.
    rows
        (N, V, NUM_COLUMNS) float32 kernel rows.
    lut
        (3, 256), the output value of each uint8 per channel; 16-bit floats as bit patterns.
    height, width
        Of the views.
    taps
        Most source positions that an output position reads on an axis (`launch.most_taps`).
    most_radius
        Largest blur radius of all rows.
    plane_step, pixel_step
        From a channel to the next and from a pixel to the next, in elements of `out`.
    out
        (N V 3 h w,) of the dtype of `lut`; overwritten.
    """
    v, n = cuda.blockIdx.x, cuda.blockIdx.y
    row, height, width = rows[n, v], np.int32(height), np.int32(width)
    size = np.int32(height * width)
    memory, numbers = cuda.shared.array(0, float32), cuda.shared.array(0, int32)  # the same memory
    # What lies where: three planes, one more if any view is blurred, then the weights of blur, rows and columns, and the integers.
    across = np.int32(3 * size)
    gauss = np.int32(across + (size if most_radius > 0 else 0))
    weights_y = np.int32(gauss + most_radius + 1)
    weights_x = np.int32(weights_y + height * taps)
    table_y = np.int32(weights_x + width * taps)
    table_x = np.int32(table_y + 2 * height)
    total = U32(table_x + 2 * width)

    resample, radius = np.int32(row[col.RESAMPLE]), np.int32(row[col.RADIUS])
    prepare_axis(
        resample,
        np.int32(row[col.HEIGHT]),
        height,
        0,
        height,
        taps,
        memory,
        numbers,
        weights_y,
        table_y,
        height,
    )
    prepare_axis(
        resample,
        np.int32(row[col.WIDTH]),
        width,
        0,
        width,
        taps,
        memory,
        numbers,
        weights_x,
        table_x,
        width,
    )
    if lane() == 0:
        numbers[total] = 0
        if radius > 0:
            fill_weights(radius, row[col.FALLOFF], memory[gauss:])
    cuda.syncthreads()

    corner, stride = crop_corner(row, sources[n, v])
    flip = row[col.FLIP] != ZERO
    early = steps_before_contrast(row)
    luma_sum = np.int32(0)
    for y in range(cuda.threadIdx.y, height, cuda.blockDim.y):
        line, count_y = (
            corner + numbers[U32(table_y + y)] * stride,
            numbers[U32(table_y + height + y)],
        )
        for x in range(cuda.threadIdx.x, width, cuda.blockDim.x):
            column = np.int32(width - 1 - x if flip else x)
            offset, count_x = (
                line + 3 * numbers[U32(table_x + column)],
                numbers[U32(table_x + width + column)],
            )
            r, g, b = resample_pixel(
                pixels,
                offset,
                stride,
                memory,
                np.int32(weights_y + y * taps),
                count_y,
                np.int32(weights_x + column * taps),
                count_x,
            )
            r, g, b = color_steps(r, g, b, row, 0, early, ZERO)
            luma_sum = np.int32(luma_sum + np.int32(luma(r, g, b)))
            p = np.int32(y * width + x)
            memory[U32(p)], memory[U32(size + p)], memory[U32(2 * size + p)] = r, g, b
    mean = ZERO
    if early < 4:
        cuda.atomic.add(numbers, total, luma_sum)
        cuda.syncthreads()
        mean = rounded(np.float32(numbers[total]) / np.float32(size))

    gray, threshold = row[col.GRAY] != ZERO, row[col.THRESHOLD]
    base = (np.int64(n) * rows.shape[1] + v) * 3 * size
    for y in range(cuda.threadIdx.y, height, cuda.blockDim.y):
        for x in range(cuda.threadIdx.x, width, cuda.blockDim.x):
            p = np.int32(y * width + x)
            r, g, b = color_steps(
                memory[U32(p)],
                memory[U32(size + p)],
                memory[U32(2 * size + p)],
                row,
                early,
                4,
                mean,
            )
            if gray:
                r = luma(r, g, b)
                g, b = r, r
            if radius > 0:
                memory[U32(p)], memory[U32(size + p)], memory[U32(2 * size + p)] = r, g, b
            else:
                place = U64(base + p * pixel_step)
                out[place] = finish_value(r, 0, threshold, lut)
                out[place + U64(plane_step)] = finish_value(g, 1, threshold, lut)
                out[place + U64(2 * plane_step)] = finish_value(b, 2, threshold, lut)
    if radius == 0:
        return
    for c in range(1 if gray else 3):
        plane = np.int32(c * size)
        cuda.syncthreads()
        for y in range(cuda.threadIdx.y, height, cuda.blockDim.y):
            for x in range(cuda.threadIdx.x, width, cuda.blockDim.x):
                line = np.int32(plane + y * width)
                value = memory[U32(gauss)] * memory[U32(line + x)]
                for t in range(1, radius + 1):
                    left, right = (
                        memory[U32(line + reflected(x - t, width))],
                        memory[U32(line + reflected(x + t, width))],
                    )
                    value += memory[U32(gauss + t)] * (left + right)
                memory[U32(across + y * width + x)] = value
        cuda.syncthreads()
        for y in range(cuda.threadIdx.y, height, cuda.blockDim.y):
            for x in range(cuda.threadIdx.x, width, cuda.blockDim.x):
                column = np.int32(across + x)
                value = memory[U32(gauss)] * memory[U32(column + y * width)]
                for t in range(1, radius + 1):
                    above, below = (
                        reflected(y - t, height) * width,
                        reflected(y + t, height) * width,
                    )
                    value += memory[U32(gauss + t)] * (
                        memory[U32(column + above)] + memory[U32(column + below)]
                    )
                place = base + (y * width + x) * pixel_step
                if gray:
                    for channel in range(3):
                        out[U64(place + channel * plane_step)] = finish_value(
                            value, channel, threshold, lut
                        )
                else:
                    out[U64(place + c * plane_step)] = finish_value(value, c, threshold, lut)
