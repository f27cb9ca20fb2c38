"""Small views on the GPU: crop, resize, flip and grey in one launch for all views of a batch."""

import numpy as np
from numba import cuda

from ffcv_ssl.kernels import rows as col
from ffcv_ssl.kernels.scalar.color import luma, to_uint8
from ffcv_ssl.kernels.scalar.resample import first_tap, num_taps, tap_weight

THREADS = 256  # per view


@cuda.jit(device=True)
def tap_total(resample, first, count, index, source_size, size):
    """Sum of the weights of an output position, in the order of `kernels.cpu.resize.axis_taps`."""
    total = np.float32(0)
    for t in range(count):
        total += tap_weight(resample, first + t, index, source_size, size)
    return total


@cuda.jit
def patch_views(images, rows, lut, out):
    """CUDA twin of `kernels.cpu.view.render_views` for rows that crop, resize, flip and grey.

    A block owns one view, its threads stride over the pixels; launch with `[(N, V), THREADS]`.

    Parameters
    ----------
    images
        (N, H, W, 3) uint8, RGB.
    rows
        (N, V, NUM_COLUMNS) float32 kernel rows; columns beyond those of crop, flip and grey are not read.
    lut
        (3, 256), the output value of each uint8 per channel; float16 as uint16 bit patterns.
    out
        (N, V, 3, h, w) of the dtype of `lut`; overwritten.
    """
    n, v = cuda.blockIdx.x, cuda.blockIdx.y
    row = rows[n, v]
    top, left = np.int32(row[col.TOP]), np.int32(row[col.LEFT])
    box_height, box_width = np.int32(row[col.HEIGHT]), np.int32(row[col.WIDTH])
    resample, gray = np.int32(row[col.RESAMPLE]), row[col.GRAY] != 0
    height, width = out.shape[3], out.shape[4]
    for i in range(cuda.threadIdx.x, height * width, cuda.blockDim.x):
        y, x = i // width, i % width
        source_x = width - 1 - x if row[col.FLIP] != 0 else x
        first_y, count_y = first_tap(resample, y, box_height, height), num_taps(resample, y, box_height, height)
        first_x, count_x = first_tap(resample, source_x, box_width, width), num_taps(resample, source_x, box_width, width)
        scale_y = np.float32(1) / tap_total(resample, first_y, count_y, y, box_height, height)
        scale_x = np.float32(1) / tap_total(resample, first_x, count_x, source_x, box_width, width)
        r, g, b = np.float32(0), np.float32(0), np.float32(0)
        for tx in range(count_x):
            line_r, line_g, line_b = np.float32(0), np.float32(0), np.float32(0)
            for ty in range(count_y):
                weight = tap_weight(resample, first_y + ty, y, box_height, height) * scale_y
                pixel = images[n, top + first_y + ty, left + first_x + tx]
                line_r += weight * np.float32(pixel[0])
                line_g += weight * np.float32(pixel[1])
                line_b += weight * np.float32(pixel[2])
            weight = tap_weight(resample, first_x + tx, source_x, box_width, width) * scale_x
            r, g, b = r + weight * line_r, g + weight * line_g, b + weight * line_b
        if gray:
            r = g = b = luma(r, g, b)
        out[n, v, 0, y, x] = lut[0, to_uint8(r)]
        out[n, v, 1, y, x] = lut[1, to_uint8(g)]
        out[n, v, 2, y, x] = lut[2, to_uint8(b)]
