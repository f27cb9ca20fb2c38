"""Hashes of a seed and a sample index.

They do not depend on the machine, the number of workers or NumPy's version.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_MULTIPLIERS = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))


def _mix(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Apply the finalizer of SplitMix64, a bijection of uint64.

    Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014.
    """
    words = (words ^ (words >> np.uint64(30))) * _MULTIPLIERS[0]
    words = (words ^ (words >> np.uint64(27))) * _MULTIPLIERS[1]
    return np.asarray(words ^ (words >> np.uint64(31)))


def index_hash(seed: int, indices: NDArray[np.integer]) -> NDArray[np.uint64]:
    """Hash indices under a seed; different indices have different hashes.

    Parameters
    ----------
    seed
        0 to 2**64 - 1.
    indices
        (N,) integers, >= 0.

    Returns
    -------
    np.ndarray
        (N,) uint64.
    """
    # Mixed twice, so that seed and index are not interchangeable.
    seed_word = _mix(_mix(np.array([seed], dtype=np.uint64) + _GAMMA) + _GAMMA)
    return _mix(_mix(indices.astype(np.uint64) + _GAMMA) ^ seed_word)


def index_uniform(seed: int, index: int) -> float:
    """Return a uniform number that depends only on seed and index: the top 53 bits of their hash.

    Parameters
    ----------
    seed
        0 to 2**64 - 1.
    index
        Index of a sample, >= 0.

    Returns
    -------
    float
        In [0, 1).
    """
    return float(index_hash(seed, np.array([index]))[0] >> np.uint64(11)) * 2.0**-53
