"""What the CUDA kernels have in common, for one pixel or one thread of a block; the formulas are those of `kernels.scalar`."""

import numpy as np
from numba import cuda

from ffcv_ssl.kernels import rows as col
from ffcv_ssl.kernels.scalar.color import (
    blend,
    clamp,
    hue_shift,
    luma,
    solarize,
    to_uint8,
    turn_hue,
)
from ffcv_ssl.kernels.scalar.resample import fill_taps

ORIGIN, STRIDE = range(2)  # columns of `sources`
ZERO = np.float32(0)
U32, U64 = (
    np.uint32,
    np.uint64,
)  # unsigned indices: signed ones may count from the end, which costs a comparison and a choice each
RED_TO_GREEN, RED_TO_BLUE, PIXEL_BYTES = U64(1), U64(2), U64(3)


@cuda.jit(device=True)
def lane():
    """Number of a thread in its block."""
    return cuda.threadIdx.y * cuda.blockDim.x + cuda.threadIdx.x


@cuda.jit(device=True)
def prepare_axis(
    resample, source_size, size, start, stop, taps, memory, numbers, weights, table, room
):
    """Fill the tables of output positions [start, stop) of one axis: all threads of the block take part.

    Position `start + i` gets its first source position in `numbers[table + i]`, their number `room` places further on, and their weights
    in `memory[weights + i * taps]` and behind; both arrays are the block's shared memory.
    """
    for i in range(lane(), stop - start, cuda.blockDim.x * cuda.blockDim.y):
        first, count = fill_taps(
            resample, start + i, source_size, size, memory[weights + i * taps :]
        )
        numbers[U32(table + i)] = first
        numbers[U32(table + room + i)] = count


@cuda.jit(device=True)
def crop_corner(row, source):
    """Byte where the crop of a view begins, and bytes per row of its image."""
    stride = source[U32(STRIDE)]
    return source[U32(ORIGIN)] + np.int64(row[col.TOP]) * stride + 3 * np.int64(
        row[col.LEFT]
    ), stride


@cuda.jit(device=True)
def resample_pixel(pixels, offset, stride, memory, weights_y, count_y, weights_x, count_x):
    """Weigh `count_y` x `count_x` RGB pixels from byte `offset` on, along y first, as `kernels.cpu.resize` does.

    The weights lie in `memory`, from `weights_y` and `weights_x` on.
    """
    r, g, b = ZERO, ZERO, ZERO
    column, stride = U64(offset), U64(stride)
    for tx in range(count_x):
        line_r, line_g, line_b = ZERO, ZERO, ZERO
        place = column
        for ty in range(count_y):
            weight = memory[U32(weights_y + ty)]
            line_r += weight * np.float32(pixels[place])
            line_g += weight * np.float32(pixels[place + RED_TO_GREEN])
            line_b += weight * np.float32(pixels[place + RED_TO_BLUE])
            place += stride
        weight = memory[U32(weights_x + tx)]
        r += weight * line_r
        g += weight * line_g
        b += weight * line_b
        column += PIXEL_BYTES
    return r, g, b


@cuda.jit(device=True)
def steps_before_contrast(row):
    """Number of colour steps before the contrast; all four if there is none, and then no mean is needed."""
    if row[col.CONTRAST] == col.UNCHANGED:
        return 4
    order = np.int32(row[col.ORDER])
    steps = 0
    while order & 3 != col.STEP_CONTRAST and steps < 4:
        order >>= 2
        steps += 1
    return steps


@cuda.jit(device=True)
def color_steps(r, g, b, row, start, stop, mean):
    """Apply the colour steps [start, stop) of a row's order to one pixel; `mean` is the grey that contrast blends with."""
    order = np.int32(row[col.ORDER]) >> (2 * start)
    for _ in range(start, stop):
        step = order & 3
        order >>= 2
        if step == col.STEP_BRIGHTNESS:
            factor = row[col.BRIGHTNESS]
            if factor != col.UNCHANGED:
                r, g, b = clamp(r * factor), clamp(g * factor), clamp(b * factor)
        elif step == col.STEP_CONTRAST:
            factor = row[col.CONTRAST]
            if factor != col.UNCHANGED:
                r, g, b = blend(r, mean, factor), blend(g, mean, factor), blend(b, mean, factor)
        elif step == col.STEP_SATURATION:
            factor = row[col.SATURATION]
            if factor != col.UNCHANGED:
                gray = luma(r, g, b)
                r, g, b = blend(r, gray, factor), blend(g, gray, factor), blend(b, gray, factor)
        elif row[col.HUE] != col.NO_SHIFT:
            r, g, b = turn_hue(r, g, b, hue_shift(row[col.HUE]))
    return r, g, b


@cuda.jit(device=True)
def blurred_value(memory, centre, step, radius, weights):
    """Weigh `memory[centre ± t step]` by `memory[weights + t]`, from the centre outwards, as `kernels.cpu.blur` does."""
    total = memory[U32(weights)] * memory[U32(centre)]
    for t in range(1, radius + 1):
        total += memory[U32(weights + t)] * (
            memory[U32(centre - t * step)] + memory[U32(centre + t * step)]
        )
    return total


@cuda.jit(device=True)
def finish_value(value, channel, threshold, lut):
    """Turn a float32 value into what the batch holds: a byte, solarized, through the lookup table."""
    return lut[U32(channel), solarize(to_uint8(value), threshold)]
