"""Test images whose pixels encode their position."""

import numpy as np


def coordinates(height, width, seed=0):
    """Return (height, width, 3) uint8 with rows in red, columns in green, noise in blue."""
    y, x = np.mgrid[:height, :width]
    noise = np.random.default_rng(seed).integers(0, 256, (height, width))
    return np.stack(
        (y * 255 // max(height - 1, 1), x * 255 // max(width - 1, 1), noise), axis=2
    ).astype(np.uint8)


def photo_like(height, width, seed=0):
    """Return (height, width, 3) uint8 with smooth colors and edges over the whole range."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    waves = [
        np.sin(x * a + y * b + c) for a, b, c in rng.uniform((0.02, 0.02, 0), (0.3, 0.3, 6), (9, 3))
    ]
    channels = [waves[3 * c] + waves[3 * c + 1] + np.sign(waves[3 * c + 2]) for c in range(3)]
    return np.clip(np.stack(channels, axis=2) * 60 + 128, 0, 255).astype(np.uint8)
