"""Gaussian blur of one axis: weights and reflected borders."""

from ffcv_ssl.kernels._jit import scalar


@scalar
def next_weight(weight, falloff, step):
    """Weight at distance `step` from the one before it: exp(-x^2 / 2 sigma^2) = falloff^(x^2), and x^2 grows by 2x - 1."""
    for _ in range(2 * step - 1):
        weight = weight * falloff
    return weight


@scalar
def reflected(position, size):
    """`position` folded back into [0, size) at the borders, without repeating the edge (torchvision's "reflect")."""
    if position < 0:
        return -position
    return 2 * size - 2 - position if position >= size else position
