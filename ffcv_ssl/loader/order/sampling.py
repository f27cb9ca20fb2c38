"""Draw samples with replacement, and tell apart the places that one sample has in an epoch."""

import zlib
from collections.abc import Callable
from typing import Any

import numpy as np

from ffcv_ssl.beton.reader import BetonReader
from ffcv_ssl.errors import FieldNotFound, PipelineError
from ffcv_ssl.loader.order.page_order import hashes
from ffcv_ssl.system.names import did_you_mean

UNUSED_BITS = np.uint64(11)  # of a 64-bit hash; the others fill a float64 in [0, 1)


class Weights:
    """How likely each selected sample is at every place of an epoch.

    Parameters
    ----------
    values
        (N,) float64, finite, >= 0; any sum. Not all are 0, unless there are none.
    given
        The same, where the user gave them; None where they follow from the samples' classes.
    """

    def __init__(self, values: np.ndarray, given: np.ndarray | None = None):
        self.given, self._num_samples = given, len(values)
        # Shares of the largest weight: a sum of the weights themselves might overflow.
        self._cumulative = np.cumsum(values / values.max(initial=1e-300))
        self._total = self._cumulative[-1] if len(values) else 0.0

    def draw(self, seed: int, epoch: int) -> np.ndarray:
        """Return the draws of one epoch as (N,) positions in the selection.

        The draw at a place depends on the hash of (seed, epoch, place) alone. A sample of weight 0 is
        never drawn.
        """
        bits = hashes("order.draws", seed, epoch, np.arange(self._num_samples)) >> UNUSED_BITS
        targets = bits.astype(np.float64) * (self._total * 2.0**-53)
        # Rounding may bring a target up to the total, which the last sample that can be drawn reaches.
        last = np.searchsorted(self._cumulative, self._total)
        return np.minimum(np.searchsorted(self._cumulative, targets, side="right"), last)

    @property
    def checksum(self) -> int:
        """CRC-32 of what decides the draws."""
        return zlib.crc32(self._cumulative.astype("<f8").tobytes())


def plan_weights(
    reader: BetonReader, indices: np.ndarray, weights: Any, balanced: str | None
) -> Weights | None:
    """Return the weights of the selected samples, None where they are not drawn by weight.

    Parameters
    ----------
    reader
        The open file.
    indices
        (N,) int64 sample ids.
    weights
        (N,) numbers, or None.
    balanced
        Name of a field of integers, or None. The samples of a class share its weight, the same for all.

    Raises
    ------
    FieldNotFound, PipelineError
        If the weights do not fit the selection, or the field is none of integers.
    """
    if balanced is not None:
        classes = scalar_column(reader, balanced, "balanced")[indices]
        if classes.dtype.kind not in "biu":
            raise PipelineError(
                f"{reader.path}: balanced counts integers, and field {balanced!r} holds {classes.dtype}."
            )
        _, inverse, counts = np.unique(classes, return_inverse=True, return_counts=True)
        return Weights(1.0 / counts[inverse])
    return None if weights is None else _given_weights(reader, indices, weights)


def _given_weights(reader: BetonReader, indices: np.ndarray, weights: Any) -> Weights:
    """Check weights that a user gave."""
    try:
        values = np.asarray(weights)
    except (TypeError, ValueError, RuntimeError) as error:  # ragged lists; tensors with a gradient
        raise PipelineError(f"{reader.path}: weights are an array of numbers ({error}).") from error
    if values.dtype.kind not in "biuf":
        raise PipelineError(f"{reader.path}: weights are an array of numbers, got {values.dtype}.")
    values = values.astype(np.float64)  # a copy, which the caller cannot change
    if values.shape != indices.shape:
        raise PipelineError(
            f"{reader.path}: weights are one number for each selected sample, ({len(indices)},), "
            f"got {values.shape}; with indices, give weights[indices]."
        )
    wrong = np.flatnonzero(~(np.isfinite(values) & (values >= 0)))
    if len(wrong):
        first = wrong[0]
        raise PipelineError(
            f"{reader.path}: weights are finite and >= 0, got {values[first]} at position {first} (sample {indices[first]})."
        )
    if len(values) and not values.any():
        raise PipelineError(
            f"{reader.path}: all {len(values)} weights are 0, so no sample can be drawn."
        )
    return Weights(values, values)


def scalar_column(reader: BetonReader, name: str, purpose: str) -> np.ndarray:
    """Return the values of a scalar field, (num_samples,); `purpose` says who reads them, for messages."""
    if name not in reader.fields:
        raise FieldNotFound(
            f"{reader.path}: no field {name!r}. Fields: {', '.join(reader.fields)}.{did_you_mean(name, reader.fields)}"
        )
    if reader.fields[name].pointer_name is not None:
        kind = type(reader.fields[name]).__name__
        raise PipelineError(
            f"{reader.path}: {purpose} reads scalar fields, and {name!r} is a {kind}."
        )
    return reader.records[name]


def chosen_samples(
    reader: BetonReader,
    indices: np.ndarray,
    field: str,
    condition: Callable[[np.ndarray], np.ndarray],
) -> np.ndarray:
    """Return which of the samples `indices` satisfy a condition on a scalar field, (N,) bool."""
    mask = np.asarray(condition(scalar_column(reader, field, "filter")[indices]))
    if mask.dtype != bool or mask.shape != indices.shape:
        raise PipelineError(
            f"{reader.path}: filter's condition returns one bool per value, ({len(indices)},), "
            f"got {mask.dtype} {mask.shape}; combine comparisons as in (x >= 3) & (x < 7)."
        )
    return mask


def has_repeats(sample_ids: np.ndarray) -> bool:
    """Whether any sample comes twice."""
    return bool(np.bincount(sample_ids).max(initial=0) > 1)


def occurrences(sample_ids: np.ndarray) -> np.ndarray:
    """Return for each place how many places before it hold the same sample; (N,) int64, as are the ids."""
    by_id = np.argsort(sample_ids, kind="stable")
    places = np.arange(len(sample_ids))
    is_first = np.diff(sample_ids[by_id], prepend=-1) != 0
    counts = np.empty_like(places)
    counts[by_id] = places - np.maximum.accumulate(np.where(is_first, places, 0))
    return counts
