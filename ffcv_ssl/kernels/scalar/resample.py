"""Antialiased resampling along one axis: source positions of an output position and their weights.

Follows the convolution of Pillow's `Image.resize`: the filter's support grows with the reduction,
weights are normalized, and the filter is cut at the borders. Positions are compared as exact
integers, in units of half an output pixel, so that all backends break ties alike.
"""

import numpy as np

from ffcv_ssl.kernels._jit import inline
from ffcv_ssl.kernels._types import Floats, Int
from ffcv_ssl.kernels.rows import AREA, BICUBIC, BILINEAR

HALF, ONE, TWO, THREE, FOUR, FIVE, EIGHT = (np.float32(value) for value in (0.5, 1, 2, 3, 4, 5, 8))
ZERO = np.float32(0)
CUBIC_A = np.float32(-0.5)  # Catmull-Rom, as in Pillow (torch and OpenCV use -0.75)


@inline
def filter_width(resample: Int) -> int:
    """Return the full width of a filter at scale 1, in source pixels; 0 for nearest."""
    if resample == BILINEAR:
        return 2
    if resample == BICUBIC:
        return 4
    return 1 if resample == AREA else 0


@inline
def filter_weight(resample: Int, distance: np.float32) -> np.float32:
    """Return the unnormalized weight at `distance` filter units from the center."""
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


@inline
def first_tap(resample: Int, index: Int, source_size: Int, size: Int) -> Int:
    """Return the first source position that output position `index` reads."""
    width = filter_width(resample)
    center = (2 * index + 1) * source_size
    if width == 0:
        return center // (2 * size)
    return max(center - width * max(source_size, size) + size, 0) // (2 * size)


@inline
def num_taps(resample: Int, index: Int, source_size: Int, size: Int) -> Int:
    """Return the number of source positions that output position `index` reads."""
    width = filter_width(resample)
    if width == 0:
        return 1
    last = ((2 * index + 1) * source_size + width * max(source_size, size) + size) // (2 * size)
    return min(last, source_size) - first_tap(resample, index, source_size, size)


@inline
def tap_weight(resample: Int, position: Int, index: Int, source_size: Int, size: Int) -> np.float32:
    """Return the unnormalized weight of source position `position` for output position `index`."""
    distance = (2 * position + 1) * size - (2 * index + 1) * source_size
    return filter_weight(resample, np.float32(distance) / np.float32(2 * max(source_size, size)))


@inline
def fill_taps(
    resample: Int, index: Int, source_size: Int, size: Int, weights: Floats
) -> tuple[Int, Int]:
    """Fill `weights` with the normalized weights of output position `index`.

    Returns
    -------
    first, count
        First source position that `index` reads, and the number of source positions.
    """
    first = first_tap(resample, index, source_size, size)
    count = num_taps(resample, index, source_size, size)
    total = ZERO
    for t in range(count):
        weights[t] = tap_weight(resample, first + t, index, source_size, size)
        total += weights[t]
    scale = ONE / total
    for t in range(count):
        weights[t] *= scale
    return first, count
