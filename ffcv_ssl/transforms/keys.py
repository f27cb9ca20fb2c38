"""Counter-based random numbers.

Every uniform is a pure function of (seed, epoch, sample id, occurrence, view, column, attempt).
"""

import copy
import functools
import hashlib
from collections.abc import Sequence

import numpy as np

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
FACTORS = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
SHIFTS = np.uint64(30), np.uint64(27), np.uint64(31)
ROTATE, ROTATE_BACK = np.uint64(23), np.uint64(41)
MANTISSA_SHIFT = np.uint64(40)  # the top 24 bits fill a float32
WORD = 0xFFFFFFFFFFFFFFFF


def mix(words: np.ndarray) -> np.ndarray:
    """Return the SplitMix64 finalizer of uint64 words (Steele, Lea, Flood 2014)."""
    mixed = words ^ (words >> SHIFTS[0])
    mixed *= FACTORS[0]
    mixed ^= mixed >> SHIFTS[1]
    mixed *= FACTORS[1]
    mixed ^= mixed >> SHIFTS[2]
    return mixed


def rotate(state: np.ndarray) -> np.ndarray:
    """Return a state made ready to take in a word."""
    return ((state << ROTATE) | (state >> ROTATE_BACK)) + GOLDEN


def absorb(state: np.ndarray, words: np.ndarray) -> np.ndarray:
    """Return the state after taking in one more word; broadcasts, and differs when two words change places."""
    return mix(rotate(state) ^ mix(words + GOLDEN))


def as_words(values: int | Sequence[int] | np.ndarray) -> np.ndarray:
    """Return integers as a uint64 array of at least one dimension (NumPy scalars would warn on overflow)."""
    if isinstance(values, int):
        values = [values & WORD]
    return np.atleast_1d(np.asarray(values)).astype(np.uint64)


@functools.lru_cache(maxsize=1024)
def column_word(column: str) -> int:
    """Return the 64-bit word of a column name; the same in every process."""
    return int.from_bytes(hashlib.blake2b(column.encode(), digest_size=8).digest(), "little")


@functools.lru_cache(maxsize=4096)
def column_key(column: str, attempt: int) -> np.ndarray:
    """Return what a state takes in for one attempt at a column, (1,) uint64, read-only."""
    key = mix(as_words(column_word(column) ^ (attempt * int(GOLDEN) & WORD)) + GOLDEN)
    key.flags.writeable = False
    return key


class Keys:
    """Random numbers of one transform for every (sample, view) of a batch.

    Parameters
    ----------
    seed, epoch
        The loader's; a transform's own `seed` replaces the first.
    sample_ids
        (N,) integers, positions in the file.
    views
        (V,) integers, counted over all views of the stored field.
    name
        Prefix of the transform's columns.
    occurrences
        (N,) integers: 0 for a sample's first place in the epoch, other numbers for its other
        places. None: all 0. A 0 adds no word to the key.
    """

    def __init__(
        self,
        seed: int,
        epoch: int,
        sample_ids: np.ndarray,
        views: Sequence[int],
        name: str = "",
        occurrences: np.ndarray | None = None,
    ):
        self.name = name
        self._source = epoch, sample_ids, views
        self._occurrences = occurrences
        state = absorb(
            absorb(absorb(as_words(0), as_words(seed)), as_words(epoch)),
            as_words(sample_ids)[:, None],
        )
        if occurrences is not None:
            again = occurrences > 0
            state[again] = absorb(state[again], as_words(occurrences[again])[:, None])
        self._states = rotate(absorb(state, as_words(np.asarray(views))[None, :]))

    @property
    def shape(self) -> tuple[int, int]:
        """(N, V)."""
        return self._states.shape

    def of(self, name: str, seed: int | None = None) -> "Keys":
        """Return the keys of the transform called `name`, with a seed of its own where it has one."""
        if seed is not None:
            return Keys(seed, *self._source, name, self._occurrences)
        keys = copy.copy(self)
        keys.name = name
        return keys

    def uniform(
        self, parameter: str, attempt: int = 0, where: np.ndarray | None = None
    ) -> np.ndarray:
        """Return float32 uniforms in [0, 1): (N, V), or one-dimensional for the entries chosen by the mask `where`."""
        states = self._states if where is None else self._states[where]
        bits = mix(states ^ column_key(f"{self.name}.{parameter}", attempt))
        bits >>= MANTISSA_SHIFT
        uniforms = bits.astype(np.float32)
        uniforms *= np.float32(2**-24)
        return uniforms
