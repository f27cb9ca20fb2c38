"""Gaussian blur along one axis: filter weights and reflected borders."""

import numpy as np

from ffcv_ssl.kernels._jit import inline
from ffcv_ssl.kernels._types import Floats, Int

ONE, TWO = np.float32(1), np.float32(2)


@inline
def next_weight(weight: np.float32, falloff: np.float32, step: Int) -> np.float32:
    """Return the weight at distance `step`, given the weight at distance `step` - 1.

    exp(-x^2 / (2 sigma^2)) = falloff^(x^2), and x^2 grows by 2x - 1 from x - 1 to x.
    """
    for _ in range(2 * step - 1):
        weight = weight * falloff
    return weight


@inline
def fill_weights(radius: Int, falloff: np.float32, weights: Floats) -> None:
    """Fill `weights` (>= radius + 1,) with one side of the normalized filter, center first."""
    weights[0] = total = ONE
    for x in range(1, radius + 1):
        weights[x] = next_weight(weights[x - 1], falloff, x)
        total += TWO * weights[x]
    for x in range(radius + 1):
        weights[x] /= total


@inline
def reflected(position: Int, size: Int) -> Int:
    """Reflect `position` into [0, size) without repeating the edge (torchvision's "reflect")."""
    if position < 0:
        return -position
    return 2 * size - 2 - position if position >= size else position
