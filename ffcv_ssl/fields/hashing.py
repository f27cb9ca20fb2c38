"""Choices that depend only on a seed and a sample's index: the same for any number of workers, machine or NumPy version."""

from __future__ import annotations

import numpy as np

_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_MULTIPLIERS = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))


def _mix(words: np.ndarray) -> np.ndarray:
    """Finalizer of splitmix64, a bijection of uint64 (Steele, Lea, Flood 2014: "Fast splittable pseudorandom number generators")."""
    words = (words ^ (words >> np.uint64(30))) * _MULTIPLIERS[0]
    words = (words ^ (words >> np.uint64(27))) * _MULTIPLIERS[1]
    return words ^ (words >> np.uint64(31))


def index_hash(seed: int, indices: np.ndarray) -> np.ndarray:
    """Hash (N,) non-negative indices under a seed in [0, 2**64) to (N,) uint64; different indices never collide."""
    seed_word = _mix(
        _mix(np.array([seed], dtype=np.uint64) + _GAMMA) + _GAMMA
    )  # twice: seed and index are not interchangeable
    return _mix(_mix(indices.astype(np.uint64) + _GAMMA) ^ seed_word)


def index_uniform(seed: int, index: int) -> float:
    """A number in [0, 1) that is a pure function of seed and index: the top 53 bits of their hash."""
    return float(index_hash(seed, np.array([index]))[0] >> np.uint64(11)) * 2.0**-53
