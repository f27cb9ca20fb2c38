"""Counter-based random numbers.

Each random number is a pure function of (seed, epoch, sample id, occurrence, view, column,
attempt).
"""

import copy
import functools
import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint64]

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
FACTORS = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
SHIFTS = np.uint64(30), np.uint64(27), np.uint64(31)
ROTATE, ROTATE_BACK = np.uint64(23), np.uint64(41)
MANTISSA_SHIFT = np.uint64(40)  # leaves the top 24 bits, which a float32 represents exactly
WORD = 0xFFFFFFFFFFFFFFFF


def mix(words: Words) -> Words:
    """Apply the SplitMix64 finalizer to uint64 words (Steele, Lea, Flood 2014)."""
    mixed = words ^ (words >> SHIFTS[0])
    mixed *= FACTORS[0]
    mixed ^= mixed >> SHIFTS[1]
    mixed *= FACTORS[1]
    mixed ^= mixed >> SHIFTS[2]
    return mixed


def rotate(state: Words) -> Words:
    """Rotate a state so that it can absorb the next word."""
    return ((state << ROTATE) | (state >> ROTATE_BACK)) + GOLDEN


def absorb(state: Words, words: Words) -> Words:
    """Combine a state with one more word; broadcasts, and depends on the order of the words."""
    return mix(rotate(state) ^ mix(words + GOLDEN))


def as_words(values: int | Sequence[int] | NDArray[Any]) -> Words:
    """Convert integers to a uint64 array with at least one dimension.

    NumPy scalars would warn on overflow; arrays wrap silently.
    """
    if isinstance(values, int):
        values = [values & WORD]
    return np.atleast_1d(np.asarray(values)).astype(np.uint64)


@functools.lru_cache(maxsize=1024)
def column_word(column: str) -> int:
    """Hash a column name to 64 bits; the result is the same in every process."""
    return int.from_bytes(hashlib.blake2b(column.encode(), digest_size=8).digest(), "little")


@functools.lru_cache(maxsize=4096)
def column_key(column: str, attempt: int) -> Words:
    """Return the mixed word of one attempt at a column, (1,) uint64, read-only."""
    key = mix(as_words(column_word(column) ^ (attempt * int(GOLDEN) & WORD)) + GOLDEN)
    key.flags.writeable = False
    return key


class Keys:
    """Random numbers of one transform for every (sample, view) of a batch.

    Parameters
    ----------
    seed
        Seed of the loader or of the transform.
    epoch
        Epoch, >= 0.
    sample_ids
        (N,) integers, positions of the samples in the file.
    views
        (V,) integers, indices of the views among all views of the stored field.
    name
        Prefix of the transform's columns.
    occurrences
        (N,) integers, for samples that occur more than once in the epoch: 0 for the first
        occurrence, distinct positive numbers for the others. None means that all are 0. A 0 does
        not change the random numbers.
    """

    def __init__(
        self,
        seed: int,
        epoch: int,
        sample_ids: NDArray[np.integer[Any]],
        views: Sequence[int],
        name: str = "",
        occurrences: NDArray[np.integer[Any]] | None = None,
    ):
        self.name = name
        self._source = epoch, sample_ids, views
        self._occurrences = occurrences
        state = absorb(absorb(as_words(0), as_words(seed)), as_words(epoch))
        state = absorb(state, as_words(sample_ids)[:, None])
        if occurrences is not None:
            again = occurrences > 0
            state[again] = absorb(state[again], as_words(occurrences[again])[:, None])
        self._states = rotate(absorb(state, as_words(np.asarray(views))[None, :]))

    @property
    def shape(self) -> tuple[int, int]:
        """Number of samples and of views, (N, V)."""
        num_samples, num_views = self._states.shape
        return num_samples, num_views

    def for_transform(self, name: str, seed: int | None = None) -> "Keys":
        """Return the keys of the transform called `name`; `seed` replaces the seed unless None."""
        if seed is not None:
            return Keys(seed, *self._source, name, self._occurrences)
        keys = copy.copy(self)
        keys.name = name
        return keys

    def uniform(
        self, parameter: str, attempt: int = 0, where: NDArray[np.bool_] | None = None
    ) -> NDArray[np.float32]:
        """Return float32 uniforms in [0, 1).

        Parameters
        ----------
        parameter
            Name of the parameter.
        attempt
            Different attempts give independent numbers, for rejection sampling.
        where
            (N, V) bool; draw only for these entries.

        Returns
        -------
        uniforms
            (N, V) float32; with `where`, one-dimensional.
        """
        states = self._states if where is None else self._states[where]
        bits = mix(states ^ column_key(f"{self.name}.{parameter}", attempt))
        bits >>= MANTISSA_SHIFT
        uniforms = bits.astype(np.float32)
        uniforms *= np.float32(2**-24)
        return uniforms
