"""Boxes of an image, for tests of partial decoding."""

import numpy as np


def boxes(height, width, count, seed=0):
    """Return boxes (top, left, height, width).

    They are the whole image, each corner pixel, a middle row and column, and `count` random ones.
    """
    middle = (height // 2, 0, 1, width), (0, width // 2, height, 1)
    corners = {(top, left, 1, 1) for top in (0, height - 1) for left in (0, width - 1)}
    rng = np.random.default_rng(seed)
    tops, lefts = rng.integers(0, height, count), rng.integers(0, width, count)
    heights, widths = rng.integers(1, height - tops + 1), rng.integers(1, width - lefts + 1)
    random = zip(tops.tolist(), lefts.tolist(), heights.tolist(), widths.tolist(), strict=True)
    return [(0, 0, height, width), *sorted(corners), *middle, *random]


def inside(image, box):
    """Return the part of (H, W, …) inside a box."""
    top, left, height, width = box
    return image[top : top + height, left : left + width]
