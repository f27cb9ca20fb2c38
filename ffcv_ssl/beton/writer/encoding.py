"""Turn samples of a dataset into batches of stored bytes: the part of writing that runs in every worker."""

from __future__ import annotations

import os
import time
import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ffcv_ssl.beton.format.layout import MAX_PAGE_SIZE
from ffcv_ssl.errors import FfcvSslError, FieldError
from ffcv_ssl.fields.base import Encoded, Field

BATCH_BYTES = 1 << 18  # enough to make the cost of a message small
_BATCH_SECONDS = 0.2  # so that the progress bar moves, however slow the samples are


@dataclass(frozen=True)
class Job:
    """What there is to encode; sent once to every worker.

    Parameters
    ----------
    dataset
        Anything with `__getitem__` that gives tuples, or dicts.
    fields
        By name, one for each value of the tuple; of a dict they take the values under their names.
    indices
        (N,) int64, the samples to store, in the order of the file.
    seed
        For `Field.encode`.
    skips_errors
        Whether a sample that fails is left out (True) or ends the job.
    """

    dataset: Any
    fields: dict[str, Field]
    indices: np.ndarray
    seed: int
    skips_errors: bool


class StoredValue(NamedTuple):
    """One encoded value: its record without the pointer, its size in bytes (None: no payload), the
    field's note, and the CRC-32 of its bytes."""

    record: tuple
    size: int | None
    note: str | None
    checksum: int = 0


@dataclass(frozen=True)
class SkippedSample:
    """A sample that was left out: its index in the dataset, its path if it has one, and why."""

    index: int
    path: str
    reason: str


@dataclass(frozen=True)
class Batch:
    """Some samples in file order.

    Parameters
    ----------
    samples
        Per sample the values in the order of the fields, or the reason why there are none.
    payload
        The stored bytes of all of them, one value after the other; an empty value takes one zero byte, so that its pointer is its own.
    unused_keys
        Keys of samples that are dicts, which no field takes.
    """

    samples: list[list[StoredValue] | SkippedSample]
    payload: bytes | bytearray | memoryview
    unused_keys: frozenset[str] = frozenset()


class SampleFailed(Exception):
    """One sample could not be encoded: `index` in the dataset, `path` if known; the cause is the exception that it raised."""

    def __init__(self, index: int, path: str, reason: str):
        super().__init__(f"sample {index}{reason}")
        self.index, self.path, self.reason = index, path, reason


def reserved(size: int) -> int:
    """Bytes that a value takes in a page."""
    return max(size, 1)


def encode_batches(
    job: Job, start: int, stop: int, begin: Callable[[int], None]
) -> Iterator[Batch]:
    """Encode the samples at positions [start, stop) of the file.

    `begin` is told each position before its sample is touched. SampleFailed ends it at the first sample that fails, unless the job
    skips those.
    """
    samples: list[list[StoredValue] | SkippedSample] = []
    payload, deadline = bytearray(), time.monotonic() + _BATCH_SECONDS
    unused_keys: set[str] = set()
    for position in range(start, stop):
        begin(position)
        try:
            encoded = _encode_sample(job, int(job.indices[position]), unused_keys)
        except SampleFailed as failure:
            if not job.skips_errors or isinstance(failure.__cause__, MemoryError):
                raise
            samples.append(SkippedSample(failure.index, failure.path, failure.reason.lstrip(",: ")))
        else:
            samples.append([_store(value, payload) for value in encoded])
        if len(payload) >= BATCH_BYTES or time.monotonic() >= deadline:
            yield Batch(samples, payload, frozenset(unused_keys))
            samples, payload, deadline = [], bytearray(), time.monotonic() + _BATCH_SECONDS
    if samples:
        yield Batch(samples, payload, frozenset(unused_keys))


def warn_of_unused_keys(
    path: str, batch: Batch, fields: Mapping[str, Field], known: set[str]
) -> None:
    """Name the keys of samples that no field takes, each once; `known` takes those named."""
    if batch.unused_keys <= known:
        return
    names = ", ".join(map(repr, sorted(batch.unused_keys - known)))
    known |= batch.unused_keys
    message = f"{path}: values under {names} are not written; the fields are {', '.join(fields)}."
    warnings.warn(message, stacklevel=4)


def _store(encoded: Encoded, payload: bytearray) -> StoredValue:
    """Copy one value behind the others, at once: datasets may use their arrays again for the next sample."""
    if encoded.payload is None:
        return StoredValue(encoded.record, None, encoded.note)
    before = len(payload)
    payload += encoded.payload
    size = len(payload) - before
    with memoryview(payload) as view:  # of the copy: what the dataset gave may change meanwhile
        checksum = zlib.crc32(view[before:])
    if size == 0:
        payload += b"\0"
    return StoredValue(encoded.record, size, encoded.note, checksum)


def _encode_sample(job: Job, index: int, unused_keys: set[str]) -> list[Encoded]:
    """Encode all values of one sample; SampleFailed, with the cause, for anything that goes wrong."""
    values = _values(job, index, unused_keys)
    encoded = []
    for (name, each), value in zip(job.fields.items(), values, strict=True):
        try:
            encoded.append(_encode_value(each, value, index, job.seed))
        except Exception as error:
            path = _path_of(error, value if each.pointer_name is not None else None)
            raise SampleFailed(index, path, f", field {name!r}: {_described(error)}") from error
    total = sum(
        reserved(memoryview(each.payload).nbytes) for each in encoded if each.payload is not None
    )
    if total > MAX_PAGE_SIZE:
        raise SampleFailed(
            index, "", f": its {total} bytes do not fit the largest page of {MAX_PAGE_SIZE}."
        )
    return encoded


def _values(job: Job, index: int, unused_keys: set[str]) -> Sequence[Any]:
    """The values of one sample in the order of the fields.

    The keys of a dict that no field takes go to `unused_keys`.
    """
    names = ", ".join(job.fields)
    try:
        sample = job.dataset[index]
        if isinstance(sample, Mapping):
            unused_keys.update(str(key) for key in sample if key not in job.fields)
            missing = [name for name in job.fields if name not in sample]
            if not missing:
                return [sample[name] for name in job.fields]
    except Exception as error:  # whatever a dataset raises is about this sample
        raise SampleFailed(
            index, _path_of(error), f": {_described(error)}{_length_hint(job.dataset, error)}"
        ) from error
    if isinstance(sample, Mapping):
        found = ", ".join(map(str, sample)) or "none"
        wanted = ", ".join(map(repr, missing))
        raise SampleFailed(
            index, "", f": the dataset gave a dict without {wanted}; its keys: {found}."
        )
    if not isinstance(sample, (tuple, list)):
        wanted = f"a tuple ({names}) or a dict with these keys"
        raise SampleFailed(
            index, "", f": the dataset gave a {type(sample).__name__}, wanted {wanted}."
        )
    if len(sample) != len(job.fields):
        raise SampleFailed(
            index,
            "",
            f": the dataset gave {len(sample)} values, wanted {len(job.fields)} ({names}).",
        )
    return sample


def _encode_value(field: Field, value: Any, index: int, seed: int) -> Encoded:
    """Encode one value and hold the field to what it said about its payload."""
    encoded = field.encode(value, index, seed)
    if (encoded.payload is None) != (field.pointer_name is None):
        raise FieldError(
            f"{type(field).__name__} has pointer_name={field.pointer_name!r}, which does not go with what it encoded."
        )
    return encoded


def _described(error: Exception) -> str:
    """An exception in words: our own messages as they are, others with their type."""
    return str(error) if isinstance(error, FfcvSslError) else f"{type(error).__name__}: {error}"


def _length_hint(dataset: Any, error: Exception) -> str:
    """What `len()` promised, where the dataset did not have an index."""
    return (
        f" (len() of the dataset is {len(dataset)})"
        if isinstance(error, IndexError) and hasattr(dataset, "__len__")
        else ""
    )


def _path_of(error: Exception, value: Any = None) -> str:
    """Path of the file behind a value: itself, its `path`, or the file that the error is about."""
    if isinstance(value, Mapping):
        value = value.get("path")
    if isinstance(value, (str, os.PathLike)):
        return str(value)
    filename = getattr(error, "filename", None)
    return str(filename) if isinstance(filename, (str, os.PathLike)) else ""
