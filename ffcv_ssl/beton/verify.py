"""Verification of a whole file: page checksums and decoding of every value."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from ffcv_ssl.beton.format.integrity import Extension, page_ranges, range_checksum
from ffcv_ssl.errors import SampleError
from ffcv_ssl.system.cores import allowed_cores

if TYPE_CHECKING:
    from ffcv_ssl.beton.reader import BetonReader

_SAMPLES_PER_TASK = 256


@dataclass(frozen=True)
class Problem:
    """A damaged value or page of a file.

    Parameters
    ----------
    sample_id
        Index of the sample in the file; None for a damaged page.
    field
        Name of the field; None for a damaged page.
    message
        Description of the damage.
    is_harmless
        Whether the value decodes completely in spite of an irregularity.
    """

    sample_id: int | None
    field: str | None
    message: str
    is_harmless: bool = False


def find_problems(
    reader: BetonReader, extension: Extension | None, records_end: int, decode: bool
) -> Iterator[Problem]:
    """Compare page checksums, decode values, and yield what is damaged.

    Parameters
    ----------
    reader
        Reader of the file.
    extension
        Extension block of the file; None skips the page checksums.
    records_end
        File offset where the records end.
    decode
        Whether to decode every value.

    Yields
    ------
    Problem
        Damaged pages in file order, then damaged values in sample order.
    """
    if extension is not None:
        yield from _damaged_pages(reader, extension, records_end)
    if decode:
        starts = range(0, reader.num_samples, _SAMPLES_PER_TASK)
        with ThreadPoolExecutor(allowed_cores()) as pool:
            for problems in pool.map(partial(_damaged_values, reader), starts):
                yield from problems


def _damaged_pages(
    reader: BetonReader, extension: Extension, records_end: int
) -> Iterator[Problem]:
    """Yield the pages whose checksum differs from that of the extension block."""

    def read_into(offset: int, buffer: memoryview) -> None:
        reader.read_into(offset, len(buffer), buffer)

    first = extension.start - len(extension.page_checksums) * reader.page_size
    ranges = page_ranges(first, extension.start, reader.page_size, records_end)
    pairs = zip(ranges, extension.page_checksums, strict=True)
    for number, ((start, end), expected) in enumerate(pairs):
        actual = range_checksum(read_into, start, end)
        if actual != expected:
            message = (
                f"page {number} (offsets {start} to {end}, {_samples_in(reader, start, end)}): "
                f"its checksum is {actual:08x}, expected {expected:08x}."
            )
            yield Problem(None, None, message)


def _samples_in(reader: BetonReader, start: int, end: int) -> str:
    """Describe which samples have values in a range of the file."""
    touched = np.zeros(reader.num_samples, dtype=bool)
    for name, field in reader.fields.items():
        if field.pointer_name is not None:
            pointers, sizes = reader.extents(name)
            touched |= (sizes > 0) & (pointers >= start) & (pointers < end)
    samples = np.flatnonzero(touched)
    if len(samples) == 0:
        return "no samples"
    if len(samples) == 1:
        return f"sample {samples[0]}"
    return f"{len(samples)} samples from {samples[0]} to {samples[-1]}"


def _damaged_values(reader: BetonReader, start: int) -> list[Problem]:
    """Decode every value of one group of samples; return the problems."""
    problems = []
    for sample_id in range(start, min(start + _SAMPLES_PER_TASK, reader.num_samples)):
        for name in reader.fields:
            try:
                blemish = reader.blemish(sample_id, name)
            except SampleError as error:
                problems.append(Problem(sample_id, name, str(error.__cause__)))
            else:
                if blemish is not None:
                    problems.append(Problem(sample_id, name, blemish, is_harmless=True))
    return problems
