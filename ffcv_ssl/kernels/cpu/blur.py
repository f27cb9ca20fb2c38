"""Gaussian blur of one float32 plane: two passes of a short symmetric filter over blocks of rows that stay in the L1 cache."""

import numpy as np

from ffcv_ssl.kernels._jit import per_sample
from ffcv_ssl.kernels.scalar.blur import fill_weights, reflected

BLOCK = 2048  # values that one sweep works on (8 KiB): long enough that a loop's remainder does not count (half of the time with rows of 224)
SWEEP = 3  # taps that one sweep adds, so that sums are loaded and stored a third as often (0.021 instead of 0.031 ms, radius 6, 224 x 224)


@per_sample
def gaussian_taps(radius, falloff, weights):
    """Fill one side of the normalised filter, centre first, into `weights` float32; the sweep's last taps may lie beyond the radius: 0."""
    fill_weights(radius, falloff, weights)
    for x in range(radius + 1, radius + SWEEP):
        weights[x] = np.float32(0)


@per_sample
def copy_line(source, out):
    """Copy one line (a slice assignment takes several times as long for a short one)."""
    for i in range(source.size):
        out[i] = source[i]


@per_sample
def convolve(padded, start, step, radius, weights, out):
    """Weigh `padded[start + i ± t step]`, t = 0..radius, into `out[i]`; taps are added from the centre outwards."""
    for t in range(1, radius + 1, SWEEP):
        near, middle, far = t * step, min(t + 1, radius) * step, min(t + 2, radius) * step
        # Slices: an index that may be negative does not vectorise.
        left_near, left_middle, left_far = (
            padded[start - near :],
            padded[start - middle :],
            padded[start - far :],
        )
        right_near, right_middle, right_far = (
            padded[start + near :],
            padded[start + middle :],
            padded[start + far :],
        )
        weight_near, weight_middle, weight_far = weights[t], weights[t + 1], weights[t + 2]
        first, centre, weight = t == 1, padded[start:], weights[0]
        for i in range(out.size):
            total = weight * centre[i] if first else out[i]
            total += weight_near * (left_near[i] + right_near[i])
            total += weight_middle * (left_middle[i] + right_middle[i])
            out[i] = total + weight_far * (left_far[i] + right_far[i])


@per_sample
def blur_rows(plane, radius, weights, padded, work):
    """Blur along x, in place; `padded` and `work` (>= BLOCK or one row with its borders,) float32."""
    height, width = plane.shape
    stride = width + 2 * radius
    rows = max(BLOCK // stride, 1)
    for first in range(0, height, rows):
        count = min(rows, height - first)
        for y in range(count):
            line, row = padded[y * stride : (y + 1) * stride], plane[first + y]
            copy_line(row, line[radius:])
            for x in range(radius):
                line[x] = row[reflected(x - radius, width)]
                line[radius + width + x] = row[reflected(width + x, width)]
        convolve(padded, radius, 1, radius, weights, work[: count * stride - 2 * radius])
        for y in range(count):
            copy_line(work[y * stride : y * stride + width], plane[first + y])


@per_sample
def blur_columns(plane, radius, weights, padded, out):
    """Blur along y into `out` (height, width); `padded` (>= BLOCK or one row, and 2 radius rows more,) float32."""
    height, width = plane.shape
    rows = max(BLOCK // width, 1)
    for first in range(0, height, rows):
        count = min(rows, height - first)
        for y in range(count + 2 * radius):
            copy_line(plane[reflected(first + y - radius, height)], padded[y * width :])
        convolve(
            padded, radius * width, width, radius, weights, out[first : first + count].reshape(-1)
        )


@per_sample
def blur_planes(planes, radius, falloff, gray, scratch, out):
    """Blur `planes` (3, h, w) float32 into `out`; a grey view is blurred once and copied."""
    gaussian_taps(radius, falloff, scratch.taps)
    for c in range(1 if gray else 3):
        blur_rows(planes[c], radius, scratch.taps, scratch.padded, scratch.work)
        blur_columns(planes[c], radius, scratch.taps, scratch.padded, out[c])
    if gray:
        for c in range(1, 3):
            copy_line(out[0].reshape(-1), out[c].reshape(-1))
