"""Crop and antialiased resize of one image into three float32 planes."""

import numpy as np

from ffcv_ssl.kernels._jit import per_sample, scalar
from ffcv_ssl.kernels.scalar.resample import fill_taps

ROWS = np.uint64(4)  # source rows that one sweep of the vertical pass adds
ZERO, ONE, TWO, THREE = (
    np.uint64(i) for i in range(4)
)  # unsigned: an index that may be negative does not vectorise


@per_sample
def axis_taps(source_size, size, resample, first, count, weights):
    """Fill `first`, `count` (size,) uint32 and the normalised `weights` (size, taps) float32 of one axis; return the most taps used.

    Weights beyond `count` are 0 up to the next multiple of `ROWS` above the maximum, so that loops may run over all of them.
    """
    most = 0
    for i in range(size):
        first[i], count[i] = fill_taps(resample, i, source_size, size, weights[i])
        most = max(most, count[i])
    for i in range(size):
        for t in range(count[i], most + 4):
            weights[i, t] = np.float32(0)
    return most


@per_sample
def blend_rows(image, top, left, weights, y, count, line):
    """Weigh `count` rows of an (H, 3 W) uint8 image, from row `top` and byte `left` on, into `line` float32: the vertical pass."""
    last = top + count - ONE
    y = np.uint64(y)
    for t in range(ZERO, count, ROWS):
        # Rows beyond the last have weight 0.
        row_0, row_1, row_2, row_3 = (
            top + t,
            min(top + t + ONE, last),
            min(top + t + TWO, last),
            min(top + t + THREE, last),
        )
        weight_0, weight_1, weight_2, weight_3 = (
            weights[y, t],
            weights[y, t + ONE],
            weights[y, t + TWO],
            weights[y, t + THREE],
        )
        begins = t == ZERO
        for i in range(np.uint64(line.size)):
            total = weight_0 * np.float32(image[row_0, left + i])
            total = total if begins else line[i] + total
            total += weight_1 * np.float32(image[row_1, left + i])
            total += weight_2 * np.float32(image[row_2, left + i])
            line[i] = total + weight_3 * np.float32(image[row_3, left + i])


@scalar
def blend_taps(line, first, weights, taps, flip, planes, y):
    """Weigh `taps` pixels of the interleaved `line` into every pixel of three rows; unrolled where `taps` is a literal."""
    size = np.uint64(planes.shape[2])
    for x in range(size):
        start = THREE * np.uint64(first[x])
        weight = weights[x, ZERO]
        # All sums before the first store, behind which the compiler would load the weights again.
        red, green, blue = (
            weight * line[start],
            weight * line[start + ONE],
            weight * line[start + TWO],
        )
        for t in range(1, taps):
            weight = weights[x, np.uint64(t)]
            start += THREE
            red += weight * line[start]
            green += weight * line[start + ONE]
            blue += weight * line[start + TWO]
        target = size - ONE - x if flip else x
        planes[ZERO, y, target], planes[ONE, y, target], planes[TWO, y, target] = red, green, blue


@per_sample
def blend_columns(line, first, weights, most, flip, planes, y):
    """Weigh the interleaved `line` into row `y` of each plane: the horizontal pass.

    Plain loops of few taps: 0.10 ms for three taps, 224 x 224; vectorised over x they gather, which takes 0.24 (2.6 GHz, AVX-512).
    """
    if most <= 2:
        blend_taps(line, first, weights, 2, flip, planes, y)
    elif most == 3:
        blend_taps(line, first, weights, 3, flip, planes, y)
    elif most == 4:
        blend_taps(line, first, weights, 4, flip, planes, y)
    else:
        blend_taps(line, first, weights, most, flip, planes, y)


@per_sample
def prepare_taps(height, width, size_y, size_x, resample, scratch):
    """Fill the scratch's taps of both axes, unless they are those of the view before; return the most taps of the horizontal axis."""
    key = scratch.tap_key
    if (
        key[0] != height
        or key[1] != width
        or key[2] != size_y
        or key[3] != size_x
        or key[4] != resample
    ):
        axis_taps(height, size_y, resample, scratch.first_y, scratch.count_y, scratch.weights_y)
        key[5] = axis_taps(
            width, size_x, resample, scratch.first_x, scratch.count_x, scratch.weights_x
        )
        key[0], key[1], key[2], key[3], key[4] = height, width, size_y, size_x, resample
    return key[5]


@per_sample
def resize_crop(image, box, flip, resample, scratch, planes):
    """Crop `box` (top, left, height, width) out of an (H, 3 W) uint8 image and resample it into `planes` (3, h, w) float32."""
    top, left, height, width = box
    most = prepare_taps(height, width, planes.shape[1], planes.shape[2], resample, scratch)
    line = scratch.line[: 3 * width]
    for y in range(np.uint64(planes.shape[1])):
        row = np.uint64(top) + np.uint64(scratch.first_y[y])
        blend_rows(
            image,
            row,
            np.uint64(3 * left),
            scratch.weights_y,
            y,
            np.uint64(scratch.count_y[y]),
            line,
        )
        blend_columns(line, scratch.first_x, scratch.weights_x, most, flip, planes, y)
