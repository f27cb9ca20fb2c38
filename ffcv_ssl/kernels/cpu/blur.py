"""Gaussian blur of one float32 plane: two passes of a short symmetric filter."""

import numpy as np

from ffcv_ssl.kernels._jit import per_sample
from ffcv_ssl.kernels.scalar.blur import next_weight, reflected


@per_sample
def gaussian_taps(radius, falloff, weights):
    """Fill `weights[: radius + 1]` float32 with one side of the normalised filter, centre first."""
    weights[0] = np.float32(1)
    total = np.float32(1)
    for x in range(1, radius + 1):
        weights[x] = next_weight(weights[x - 1], falloff, x)
        total += np.float32(2) * weights[x]
    for x in range(radius + 1):
        weights[x] /= total


@per_sample
def blur_rows(plane, radius, weights, padded):
    """Blur along x, in place; `padded` (>= width + 2 radius,) float32 holds one row with its reflected borders."""
    height, width = plane.shape
    for y in range(height):
        row = plane[y]
        for x in range(radius):
            padded[x] = row[reflected(x - radius, width)]
            padded[radius + width + x] = row[reflected(width + x, width)]
        for x in range(width):
            padded[radius + x] = row[x]
            row[x] = weights[0] * row[x]
        for t in range(1, radius + 1):
            weight = weights[t]
            left, right = padded[radius - t :], padded[radius + t :]  # slices: an index that may be negative does not vectorise
            for x in range(width):
                row[x] += weight * (left[x] + right[x])


@per_sample
def blur_columns(plane, radius, weights, out):
    """Blur along y into `out` (height, width)."""
    height, width = plane.shape
    for y in range(height):
        target = out[y]
        row = plane[y]
        for x in range(width):
            target[x] = weights[0] * row[x]
        for t in range(1, radius + 1):
            above = plane[reflected(y - t, height)]
            below = plane[reflected(y + t, height)]
            weight = weights[t]
            for x in range(width):
                target[x] += weight * (above[x] + below[x])


@per_sample
def blur_planes(planes, radius, falloff, gray, scratch, out):
    """Blur `planes` (3, h, w) float32 into `out`; a grey view is blurred once and copied."""
    gaussian_taps(radius, falloff, scratch.taps)
    for c in range(1 if gray else 3):
        blur_rows(planes[c], radius, scratch.taps, scratch.padded)
        blur_columns(planes[c], radius, scratch.taps, out[c])
    if gray:
        for c in range(1, 3):
            out[c, :, :] = out[0]
