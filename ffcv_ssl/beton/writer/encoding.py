"""Encoding of samples to batches of bytes, which runs in every worker process."""

from __future__ import annotations

import os
import time
import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ffcv_ssl.beton.format.layout import MAX_PAGE_SIZE
from ffcv_ssl.errors import FieldError, describe_error
from ffcv_ssl.fields.base import Encoded, Field

BATCH_BYTES = 1 << 18  # large enough that the cost per message is small
_BATCH_SECONDS = 0.2  # a batch ends after this time, so that the progress bar moves


@dataclass(frozen=True)
class Job:
    """Samples to encode, sent once to every worker.

    Parameters
    ----------
    dataset
        Object whose `__getitem__` returns tuples or dicts.
    fields
        Fields by name, one per value of a tuple. From a dict they take the values of their names.
    indices
        (N,) int64 indices of the samples to store, in file order.
    seed
        Seed for `Field.encode`, 0 to 2**64 - 1.
    skip_errors
        Whether a sample that fails is skipped. Otherwise it ends the job.
    """

    dataset: Any
    fields: dict[str, Field]
    indices: NDArray[np.int64]
    seed: int
    skip_errors: bool


class StoredValue(NamedTuple):
    """One encoded value.

    Parameters
    ----------
    record
        Parts of the record without the pointer.
    size
        Size of the payload in bytes; None without payload.
    note
        Note of the field; None without note.
    checksum
        CRC-32 of the payload.
    """

    record: tuple[Any, ...]
    size: int | None
    note: str | None
    checksum: int = 0


@dataclass(frozen=True)
class SkippedSample:
    """A sample that was left out because it failed.

    Parameters
    ----------
    index
        Index of the sample in the dataset.
    path
        Path of its file; empty if unknown.
    reason
        Description of the failure.
    """

    index: int
    path: str
    reason: str


@dataclass(frozen=True)
class Batch:
    """Consecutive samples in file order.

    Parameters
    ----------
    samples
        For each sample, its values in the order of the fields, or the reason why it was skipped.
    payload
        Stored bytes of all samples, one value after the other. An empty value takes one zero byte,
        so that no other value has its pointer.
    unused_keys
        Keys of samples (dicts) that are not field names.
    """

    samples: list[list[StoredValue] | SkippedSample]
    payload: bytes | bytearray | memoryview
    unused_keys: frozenset[str] = frozenset()


class SampleFailed(Exception):
    """A sample could not be encoded; the cause is the exception that it raised.

    Parameters
    ----------
    index
        Index of the sample in the dataset.
    path
        Path of its file; empty if unknown.
    reason
        Description of the failure, appended to "sample INDEX".
    """

    def __init__(self, index: int, path: str, reason: str) -> None:
        super().__init__(f"sample {index}{reason}")
        self.index, self.path, self.reason = index, path, reason


def reserved_size(size: int) -> int:
    """Return the bytes that a value of `size` bytes occupies in a page: at least 1."""
    return max(size, 1)


def encode_batches(
    job: Job, start: int, stop: int, on_start: Callable[[int], None]
) -> Iterator[Batch]:
    """Encode the samples at positions [start, stop) of the file.

    Parameters
    ----------
    job
        Samples to encode.
    start, stop
        Positions in `job.indices`.
    on_start
        Function called with each position before its sample is accessed.

    Yields
    ------
    Batch
        Batches in file order.

    Raises
    ------
    SampleFailed
        At the first sample that fails, unless the job skips errors.
    """
    samples: list[list[StoredValue] | SkippedSample] = []
    payload, deadline = bytearray(), time.monotonic() + _BATCH_SECONDS
    unused_keys: set[str] = set()
    for position in range(start, stop):
        on_start(position)
        try:
            encoded = _encode_sample(job, int(job.indices[position]), unused_keys)
        except SampleFailed as failure:
            if not job.skip_errors or isinstance(failure.__cause__, MemoryError):
                raise
            reason = failure.reason.lstrip(",: ")
            samples.append(SkippedSample(failure.index, failure.path, reason))
        else:
            samples.append([_append_payload(value, payload) for value in encoded])
        if len(payload) >= BATCH_BYTES or time.monotonic() >= deadline:
            yield Batch(samples, payload, frozenset(unused_keys))
            samples, payload = [], bytearray()
            deadline = time.monotonic() + _BATCH_SECONDS
    if samples:
        yield Batch(samples, payload, frozenset(unused_keys))


def warn_of_unused_keys(
    path: str, batch: Batch, fields: Mapping[str, Field], reported: set[str]
) -> None:
    """Warn about keys of samples that are not written, once per key.

    Parameters
    ----------
    path
        Path of the file.
    batch
        Batch that may have unused keys.
    fields
        Fields by name.
    reported
        Keys of earlier warnings; the new ones are added.
    """
    if batch.unused_keys <= reported:
        return
    names = ", ".join(map(repr, sorted(batch.unused_keys - reported)))
    reported |= batch.unused_keys
    message = f"{path}: values under {names} are not written; the fields are {', '.join(fields)}."
    warnings.warn(message, stacklevel=4)


def _append_payload(encoded: Encoded, payload: bytearray) -> StoredValue:
    """Append the bytes of one value at once, because a dataset may reuse its arrays."""
    if encoded.payload is None:
        return StoredValue(encoded.record, None, encoded.note)
    before = len(payload)
    payload += encoded.payload
    size = len(payload) - before
    with memoryview(payload) as view:  # the copy: the value of the dataset may change meanwhile
        checksum = zlib.crc32(view[before:])
    if size == 0:
        payload += b"\0"
    return StoredValue(encoded.record, size, encoded.note, checksum)


def _encode_sample(job: Job, index: int, unused_keys: set[str]) -> list[Encoded]:
    """Encode all values of one sample; raise SampleFailed, with its cause, for any failure."""
    values = _sample_values(job, index, unused_keys)
    encoded = []
    for (name, field), value in zip(job.fields.items(), values, strict=True):
        try:
            encoded.append(_encode_value(field, value, index, job.seed))
        except Exception as error:
            path = _path_of(error, value if field.pointer_name is not None else None)
            reason = f", field {name!r}: {describe_error(error)}"
            raise SampleFailed(index, path, reason) from error
    sizes = [memoryview(each.payload).nbytes for each in encoded if each.payload is not None]
    total = sum(map(reserved_size, sizes))
    if total > MAX_PAGE_SIZE:
        reason = f": its {total} bytes do not fit the largest page of {MAX_PAGE_SIZE} bytes."
        raise SampleFailed(index, "", reason)
    return encoded


def _sample_values(job: Job, index: int, unused_keys: set[str]) -> Sequence[Any]:
    """Return the values of one sample in field order; add unused keys to `unused_keys`."""
    names = ", ".join(job.fields)
    try:
        sample = job.dataset[index]
        if isinstance(sample, Mapping):
            unused_keys.update(str(key) for key in sample if key not in job.fields)
            missing = [name for name in job.fields if name not in sample]
            if not missing:
                return [sample[name] for name in job.fields]
    except Exception as error:  # a dataset may raise anything
        reason = f": {describe_error(error)}{_length_hint(job.dataset, error)}"
        raise SampleFailed(index, _path_of(error), reason) from error
    if isinstance(sample, Mapping):
        keys = ", ".join(map(str, sample)) or "none"
        listed = ", ".join(map(repr, missing))
        reason = f": the dataset returned a dict without {listed}; its keys: {keys}."
        raise SampleFailed(index, "", reason)
    if not isinstance(sample, (tuple, list)):
        kind = type(sample).__name__
        reason = (
            f": the dataset returned {kind}, expected a tuple ({names}) or a dict with these keys."
        )
        raise SampleFailed(index, "", reason)
    if len(sample) != len(job.fields):
        reason = (
            f": the dataset returned {len(sample)} values, expected {len(job.fields)} ({names})."
        )
        raise SampleFailed(index, "", reason)
    return sample


def _encode_value(field: Field, value: Any, index: int, seed: int) -> Encoded:
    """Encode one value; check that it has a payload exactly if the field declares a pointer."""
    encoded = field.encode(value, index, seed)
    if (encoded.payload is None) != (field.pointer_name is None):
        kind = "no payload" if encoded.payload is None else "a payload"
        raise FieldError(
            f"{type(field).__name__} has pointer_name={field.pointer_name!r}, "
            f"but encode() returned {kind}."
        )
    return encoded


def _length_hint(dataset: Any, error: Exception) -> str:
    """Return a note on the length of a dataset that raised IndexError."""
    if isinstance(error, IndexError) and hasattr(dataset, "__len__"):
        return f" (len() of the dataset is {len(dataset)})"
    return ""


def _path_of(error: Exception, value: Any = None) -> str:
    """Return the path of the file behind a value or an error; empty if there is none."""
    if isinstance(value, Mapping):
        value = value.get("path")
    if isinstance(value, (str, os.PathLike)):
        return str(value)
    filename = getattr(error, "filename", None)
    return str(filename) if isinstance(filename, (str, os.PathLike)) else ""
