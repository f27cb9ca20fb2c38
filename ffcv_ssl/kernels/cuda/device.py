"""Device functions for one pixel or one thread; the formulas are those of `kernels.scalar`."""

from typing import Any

import numpy as np

from ffcv_ssl.kernels import rows as col
from ffcv_ssl.kernels._types import Array, Bytes, Floats, Int, Integers
from ffcv_ssl.kernels.cuda._jit import cuda, device_function
from ffcv_ssl.kernels.scalar.color import (
    RGB,
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
# Unsigned indices: a signed index may count from the end, which costs a comparison and a selection.
U32, U64 = np.uint32, np.uint64
RED_TO_GREEN, RED_TO_BLUE, PIXEL_BYTES = U64(1), U64(2), U64(3)


@device_function
def thread_index() -> Any:
    """Return the index of a thread in its block."""
    return cuda.threadIdx.y * cuda.blockDim.x + cuda.threadIdx.x


@device_function
def prepare_axis(
    resample: Int,
    source_size: Int,
    size: Int,
    start: Int,
    stop: Int,
    taps: Int,
    memory: Floats,
    numbers: Integers,
    weights: Int,
    table: Int,
    capacity: Int,
) -> None:
    """Compute the taps of output positions [start, stop) of one axis.

    All threads of the block take part.

    Parameters
    ----------
    resample
        Filter (`kernels.rows.RESAMPLE`).
    source_size, size
        Length of the axis in the crop and in the view, in pixels.
    taps
        Weights reserved for each output position.
    memory, numbers
        The block's shared memory as float32 and as int32.
    weights
        Offset in `memory`. The weights of position `start + i` begin at `weights + i * taps`.
    table
        Offset in `numbers`. `table + i` holds the first source position of `start + i`, and
        `table + capacity + i` holds the number of source positions.
    capacity
        Largest number of output positions in `table`.
    """
    for i in range(thread_index(), stop - start, cuda.blockDim.x * cuda.blockDim.y):
        first, count = fill_taps(
            resample, start + i, source_size, size, memory[weights + i * taps :]
        )
        numbers[U32(table + i)] = first
        numbers[U32(table + capacity + i)] = count


@device_function
def crop_corner(row: Floats, source: Integers) -> tuple[Any, Any]:
    """Return the byte offset at which a view's crop begins, and the bytes per row of its image."""
    stride = source[U32(STRIDE)]
    corner = source[U32(ORIGIN)] + np.int64(row[col.TOP]) * stride + 3 * np.int64(row[col.LEFT])
    return corner, stride


@device_function
def resample_pixel(
    pixels: Bytes,
    offset: Int,
    stride: Int,
    memory: Floats,
    weights_y: Int,
    count_y: Int,
    weights_x: Int,
    count_x: Int,
) -> RGB:
    """Return the weighted sum of `count_y` x `count_x` RGB pixels that begin at byte `offset`.

    Sums along y first, as `kernels.cpu.resize` does. The weights begin at `memory[weights_y]` and
    `memory[weights_x]`.
    """
    r, g, b = ZERO, ZERO, ZERO
    column, stride = U64(offset), U64(stride)
    for tx in range(count_x):
        line_r, line_g, line_b = ZERO, ZERO, ZERO
        source = column
        for ty in range(count_y):
            weight = memory[U32(weights_y + ty)]
            line_r += weight * np.float32(pixels[source])
            line_g += weight * np.float32(pixels[source + RED_TO_GREEN])
            line_b += weight * np.float32(pixels[source + RED_TO_BLUE])
            source += stride
        weight = memory[U32(weights_x + tx)]
        r += weight * line_r
        g += weight * line_g
        b += weight * line_b
        column += PIXEL_BYTES
    return r, g, b


@device_function
def steps_before_contrast(row: Floats) -> int:
    """Return the number of color steps before the contrast step; 4 if the contrast is unchanged.

    With 4 no step needs the mean of the view.
    """
    if row[col.CONTRAST] == col.UNCHANGED:
        return 4
    order = np.int32(row[col.ORDER])
    steps = 0
    while order & 3 != col.STEP_CONTRAST and steps < 4:
        order >>= 2
        steps += 1
    return steps


@device_function
def color_steps(
    r: np.float32,
    g: np.float32,
    b: np.float32,
    row: Floats,
    start: int,
    stop: int,
    mean: np.float32,
) -> RGB:
    """Apply color steps [start, stop) of a row's order to one pixel.

    `mean` is the gray level that the contrast step blends with.
    """
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


@device_function
def blurred_value(memory: Floats, center: Int, step: Int, radius: Int, weights: Int) -> np.float32:
    """Return the sum of `memory[weights + t] * memory[center ± t * step]` for t = 0..radius.

    Sums from the center outward, as `kernels.cpu.blur` does.
    """
    total: np.float32 = memory[U32(weights)] * memory[U32(center)]
    for t in range(1, radius + 1):
        total += memory[U32(weights + t)] * (
            memory[U32(center - t * step)] + memory[U32(center + t * step)]
        )
    return total


@device_function
def output_value(value: np.float32, channel: int, threshold: np.float32, lut: Array) -> Any:
    """Round a float32 value to a byte, solarize it and map it through the lookup table."""
    return lut[U32(channel), solarize(to_uint8(value), threshold)]


@device_function
def write_pixel(
    out: Array,
    offset: np.uint64,
    plane_step: Int,
    r: np.float32,
    g: np.float32,
    b: np.float32,
    threshold: np.float32,
    lut: Array,
) -> None:
    """Write one finished pixel; `offset` is the position of its red value in `out`."""
    out[offset] = output_value(r, 0, threshold, lut)
    out[offset + U64(plane_step)] = output_value(g, 1, threshold, lut)
    out[offset + U64(2 * plane_step)] = output_value(b, 2, threshold, lut)


@device_function
def write_blurred(
    out: Array,
    offset: Int,
    plane_step: Int,
    value: np.float32,
    channel: int,
    gray: bool,
    threshold: np.float32,
    lut: Array,
) -> None:
    """Write one finished value to its channel, or to all channels of a gray view."""
    if gray:
        for c in range(3):
            out[U64(offset + c * plane_step)] = output_value(value, c, threshold, lut)
    else:
        out[U64(offset + channel * plane_step)] = output_value(value, channel, threshold, lut)
