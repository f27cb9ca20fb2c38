"""Weighted sampling with replacement, and occurrence numbers of samples that repeat in an epoch."""

import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ffcv_ssl.beton.reader import BetonReader
from ffcv_ssl.errors import FieldNotFound, PipelineError
from ffcv_ssl.loader.order.page_order import hashes
from ffcv_ssl.system.names import did_you_mean

UNUSED_BITS = np.uint64(11)  # of a 64-bit hash; the other 53 fill a float64 in [0, 1)


class Weights:
    """Sampling weights of the selected samples.

    Parameters
    ----------
    values
        (N,) float64, finite, >= 0, with any sum. At least one is positive, unless N is 0.
    given
        The same array if the user gave the weights; None if they follow from the classes.
    """

    def __init__(self, values: NDArray[np.float64], given: NDArray[np.float64] | None = None):
        self.given, self._num_samples = given, len(values)
        # Relative to the largest weight: the sum of the weights themselves could overflow.
        self._cumulative = np.cumsum(values / values.max(initial=1e-300))
        self._total = self._cumulative[-1] if len(values) else 0.0

    def draw(self, seed: int, epoch: int) -> NDArray[np.int64]:
        """Draw the samples of one epoch with replacement.

        A draw depends only on the weights and the hash of (seed, epoch, position). A sample of
        weight 0 is never drawn.

        Parameters
        ----------
        seed, epoch
            Seed of the loader, and number of the epoch.

        Returns
        -------
        numpy.ndarray
            (N,) int64 positions in the selection.
        """
        bits = hashes("order.draws", seed, epoch, np.arange(self._num_samples)) >> UNUSED_BITS
        targets = bits.astype(np.float64) * (self._total * 2.0**-53)
        # Rounding can produce a target equal to the total. The last sample with a positive weight
        # is the first one whose cumulative weight reaches the total.
        last = np.searchsorted(self._cumulative, self._total)
        return np.minimum(np.searchsorted(self._cumulative, targets, side="right"), last)

    @property
    def checksum(self) -> int:
        """CRC-32 of the cumulative weights, which determine the draws."""
        return zlib.crc32(self._cumulative.astype("<f8").tobytes())


def plan_weights(
    reader: BetonReader, indices: NDArray[np.int64], weights: Any, balanced: str | None
) -> Weights | None:
    """Return the sampling weights of the selected samples.

    Parameters
    ----------
    reader
        The open file.
    indices
        (N,) int64 sample ids.
    weights
        (N,) numbers >= 0, or None.
    balanced
        Name of a scalar field of integers, or None. All classes get the same total weight, and the
        samples of a class share it equally.

    Returns
    -------
    Weights or None
        None if the samples are not drawn by weight.

    Raises
    ------
    FieldNotFound
        If the file has no field `balanced`.
    PipelineError
        If the weights do not fit the selection, or `balanced` is not a field of integers.
    """
    if balanced is not None:
        classes = scalar_column(reader, balanced, "balanced")[indices]
        if classes.dtype.kind not in "biu":
            raise PipelineError(
                f"{reader.path}: balanced needs a field of integers, "
                f"but field {balanced!r} contains {classes.dtype}."
            )
        _, inverse, counts = np.unique(classes, return_inverse=True, return_counts=True)
        return Weights(1.0 / counts[inverse])
    return None if weights is None else _given_weights(reader, indices, weights)


def _given_weights(reader: BetonReader, indices: NDArray[np.int64], weights: Any) -> Weights:
    """Check and copy weights that the user gave."""
    try:
        array = np.asarray(weights)
    except (TypeError, ValueError, RuntimeError) as error:  # ragged lists; tensors with a gradient
        raise PipelineError(
            f"{reader.path}: weights must be an array of numbers ({error})."
        ) from error
    if array.dtype.kind not in "biuf":
        raise PipelineError(
            f"{reader.path}: weights must be an array of numbers, got {array.dtype}."
        )
    values = array.astype(np.float64)  # always a copy, which the caller cannot change
    if values.shape != indices.shape:
        raise PipelineError(
            f"{reader.path}: weights must have one number for each selected sample, shape "
            f"({len(indices)},), got {values.shape}; with indices, give weights[indices]."
        )
    wrong = np.flatnonzero(~(np.isfinite(values) & (values >= 0)))
    if len(wrong):
        first = wrong[0]
        raise PipelineError(
            f"{reader.path}: weights must be finite and >= 0, got {values[first]} "
            f"at position {first} (sample {indices[first]})."
        )
    if len(values) and not values.any():
        raise PipelineError(
            f"{reader.path}: all {len(values)} weights are 0; at least one must be positive."
        )
    return Weights(values, values)


def scalar_column(reader: BetonReader, name: str, purpose: str) -> NDArray[Any]:
    """Return the values of a scalar field.

    Parameters
    ----------
    reader
        The open file.
    name
        Name of the field.
    purpose
        Argument or method that needs the values, for messages.

    Returns
    -------
    numpy.ndarray
        (num_samples,) values, read-only.

    Raises
    ------
    FieldNotFound
        If the file has no such field.
    PipelineError
        If the field is not a scalar field.
    """
    if name not in reader.fields:
        raise FieldNotFound(
            f"{reader.path}: no field {name!r}. Fields: {', '.join(reader.fields)}."
            f"{did_you_mean(name, reader.fields)}"
        )
    if reader.fields[name].pointer_name is not None:
        kind = type(reader.fields[name]).__name__
        raise PipelineError(
            f"{reader.path}: {purpose} needs a scalar field, but {name!r} is a {kind}."
        )
    return reader.records[name]


def matching_samples(
    reader: BetonReader,
    indices: NDArray[np.int64],
    field: str,
    condition: Callable[[NDArray[Any]], NDArray[np.bool_]],
) -> NDArray[np.bool_]:
    """Evaluate a condition on a scalar field of the selected samples.

    Parameters
    ----------
    reader
        The open file.
    indices
        (N,) int64 sample ids.
    field
        Name of a scalar field.
    condition
        Function from (N,) values to an (N,) bool mask.

    Returns
    -------
    numpy.ndarray
        (N,) bool, whether the sample satisfies the condition.

    Raises
    ------
    FieldNotFound
        If the file has no such field.
    PipelineError
        If the field is not a scalar field, or `condition` does not return one bool per value.
    """
    mask = np.asarray(condition(scalar_column(reader, field, "filter")[indices]))
    if mask.dtype != bool or mask.shape != indices.shape:
        raise PipelineError(
            f"{reader.path}: the condition of filter must return one bool per value, shape "
            f"({len(indices)},), got {mask.dtype} {mask.shape}; "
            "combine comparisons as in (x >= 3) & (x < 7)."
        )
    return mask


def has_repeats(sample_ids: NDArray[np.int64]) -> bool:
    """Return whether a sample occurs more than once in (N,) sample ids."""
    return bool(np.bincount(sample_ids).max(initial=0) > 1)


def occurrences(sample_ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """Count for each position the earlier positions with the same sample.

    Parameters
    ----------
    sample_ids
        (N,) int64.

    Returns
    -------
    numpy.ndarray
        (N,) int64; 0 at the first occurrence of a sample.
    """
    by_id = np.argsort(sample_ids, kind="stable")
    ranks = np.arange(len(sample_ids))
    is_first = np.diff(sample_ids[by_id], prepend=-1) != 0
    counts = np.empty_like(ranks)
    counts[by_id] = ranks - np.maximum.accumulate(np.where(is_first, ranks, 0))
    return counts
