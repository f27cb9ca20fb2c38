"""Crop and antialiased resize of one image into three float32 planes."""

import numpy as np

from ffcv_ssl.kernels._jit import per_sample
from ffcv_ssl.kernels.scalar.resample import first_tap, num_taps, tap_weight


@per_sample
def axis_taps(source_size, size, flip, resample, first, count, weights):
    """Fill `first`, `count` (size,) uint32 and the normalised `weights` (max taps, size) float32 of one axis; return the most taps used.

    Positions beyond `count` get weight 0, so that a loop over taps may run to the maximum for all positions.
    """
    most = 0
    for i in range(size):
        position = size - 1 - i if flip else i
        first[position] = first_tap(resample, i, source_size, size)
        count[position] = num_taps(resample, i, source_size, size)
        most = max(most, count[position])
        total = np.float32(0)
        for t in range(count[position]):
            weights[t, position] = tap_weight(resample, first[position] + t, i, source_size, size)
            total += weights[t, position]
        scale = np.float32(1) / total
        for t in range(count[position]):
            weights[t, position] *= scale
    for position in range(size):
        for t in range(count[position], most):
            weights[t, position] = np.float32(0)
    return most


@per_sample
def blend_rows(image, top, left, weights, count, flat, line):
    """Weigh `count` rows from `top` of an (H, 3 W) uint8 image into `line` (3, >= width) float32: the vertical pass, on bytes.

    `flat` (3 width,) float32 takes the interleaved sum from column `left` on, so that the loop over bytes runs over contiguous memory.
    """
    row = image[top, 3 * left :]  # a slice: an index that may be negative does not vectorise
    weight = weights[0]
    for i in range(flat.size):
        flat[i] = weight * np.float32(row[i])
    for t in range(1, count):
        weight = weights[t]
        row = image[top + t, 3 * left :]
        for i in range(flat.size):
            flat[i] += weight * np.float32(row[i])
    for x in range(flat.size // 3):
        line[0, x] = flat[3 * x]
        line[1, x] = flat[3 * x + 1]
        line[2, x] = flat[3 * x + 2]


@per_sample
def blend_columns(line, first, weights, most, out):
    """Weigh the positions of `line` (>= W + most,) into `out` (width,) float32: the horizontal pass."""
    weight = weights[0]
    for x in range(out.size):
        out[x] = weight[x] * line[first[x]]
    for t in range(1, most):
        weight, shifted = weights[t], line[t:]
        for x in range(out.size):
            out[x] += weight[x] * shifted[first[x]]


@per_sample
def resize_crop(image, box, flip, resample, scratch, planes):
    """Crop `box` (top, left, height, width) out of an (H, 3 W) uint8 image and resample it into `planes` (3, h, w) float32."""
    top, left, height, width = box
    size_y, size_x = planes.shape[1], planes.shape[2]
    axis_taps(height, size_y, False, resample, scratch.first_y, scratch.count_y, scratch.weights_y)
    most = axis_taps(width, size_x, flip, resample, scratch.first_x, scratch.count_x, scratch.weights_x)
    flat = scratch.flat[: 3 * width]
    for y in range(size_y):
        blend_rows(image, top + scratch.first_y[y], left, scratch.weights_y[:, y], scratch.count_y[y], flat, scratch.line)
        for c in range(3):
            blend_columns(scratch.line[c], scratch.first_x, scratch.weights_x, most, planes[c, y])
