"""Gaussian blur of one axis: weights and reflected borders."""

import numpy as np

from ffcv_ssl.kernels._jit import scalar

ONE, TWO = np.float32(1), np.float32(2)


@scalar
def next_weight(weight, falloff, step):
    """Weight at distance `step` from the one before it: exp(-x^2 / 2 sigma^2) = falloff^(x^2), and x^2 grows by 2x - 1."""
    for _ in range(2 * step - 1):
        weight = weight * falloff
    return weight


@scalar
def fill_weights(radius, falloff, weights):
    """Fill one side of the normalised filter, centre first, into `weights` (at least radius + 1,) float32."""
    weights[0] = total = ONE
    for x in range(1, radius + 1):
        weights[x] = next_weight(weights[x - 1], falloff, x)
        total += TWO * weights[x]
    for x in range(radius + 1):
        weights[x] /= total


@scalar
def reflected(position, size):
    """`position` folded back into [0, size) at the borders, without repeating the edge (torchvision's "reflect")."""
    if position < 0:
        return -position
    return 2 * size - 2 - position if position >= size else position
