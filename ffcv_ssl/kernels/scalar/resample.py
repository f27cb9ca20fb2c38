"""Antialiased resampling of one axis: which source positions an output position reads, and with what weight.

Source: the convolution of Pillow's `Image.resize` (support scaled by the reduction, weights normalised, cut at the borders).
Positions are compared as exact integers, in units of half an output pixel, so that no backend breaks a tie differently.
"""

import numpy as np

from ffcv_ssl.kernels._jit import scalar
from ffcv_ssl.kernels.rows import AREA, BICUBIC, BILINEAR

HALF, ONE, TWO, THREE, FOUR, FIVE, EIGHT = (np.float32(value) for value in (0.5, 1, 2, 3, 4, 5, 8))
ZERO = np.float32(0)
CUBIC_A = np.float32(-0.5)  # Catmull-Rom, as in Pillow (torch and OpenCV take -0.75)


@scalar
def filter_width(resample):
    """Full width of a filter at scale 1, in source pixels; 0 for nearest."""
    if resample == BILINEAR:
        return 2
    if resample == BICUBIC:
        return 4
    return 1 if resample == AREA else 0


@scalar
def filter_weight(resample, distance):
    """Weight of a source pixel `distance` filter units from the centre, before normalisation."""
    x = abs(distance)
    if resample == BILINEAR:
        return max(ONE - x, ZERO)
    if resample == BICUBIC:
        if x < ONE:
            return ((CUBIC_A + TWO) * x - (CUBIC_A + THREE)) * x * x + ONE
        return (
            ((CUBIC_A * x - FIVE * CUBIC_A) * x + EIGHT * CUBIC_A) * x - FOUR * CUBIC_A
            if x < TWO
            else ZERO
        )
    if resample == AREA:
        return ONE if -HALF < distance <= HALF else ZERO
    return ONE


@scalar
def first_tap(resample, index, source_size, size):
    """First source position that output position `index` reads."""
    width = filter_width(resample)
    centre = (2 * index + 1) * source_size
    if width == 0:
        return centre // (2 * size)
    return max(centre - width * max(source_size, size) + size, 0) // (2 * size)


@scalar
def num_taps(resample, index, source_size, size):
    """Number of source positions that output position `index` reads."""
    width = filter_width(resample)
    if width == 0:
        return 1
    last = ((2 * index + 1) * source_size + width * max(source_size, size) + size) // (2 * size)
    return min(last, source_size) - first_tap(resample, index, source_size, size)


@scalar
def tap_weight(resample, position, index, source_size, size):
    """Weight of source pixel `position` for output position `index`, before normalisation."""
    distance = (2 * position + 1) * size - (2 * index + 1) * source_size
    return filter_weight(resample, np.float32(distance) / np.float32(2 * max(source_size, size)))


@scalar
def fill_taps(resample, index, source_size, size, weights):
    """Fill the normalised weights of output position `index` into `weights`; return the first source position and their number."""
    first, count = (
        first_tap(resample, index, source_size, size),
        num_taps(resample, index, source_size, size),
    )
    total = ZERO
    for t in range(count):
        weights[t] = tap_weight(resample, first + t, index, source_size, size)
        total += weights[t]
    scale = ONE / total
    for t in range(count):
        weights[t] *= scale
    return first, count
