"""Go through a whole file and report what is broken."""

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
    """Something broken in a file: a value of one sample, or (both None) a whole page.

    With `is_harmless` the value is all there, and only blemished: it loads.
    """

    sample_id: int | None
    field: str | None
    message: str
    is_harmless: bool = False


def find_problems(
    reader: BetonReader, extension: Extension | None, records_end: int, decode: bool
) -> Iterator[Problem]:
    """Yield the broken pages, in file order, then the values that cannot be decoded, in order of samples."""
    if extension is not None:
        yield from _broken_pages(reader, extension, records_end)
    if decode:
        starts = range(0, reader.num_samples, _SAMPLES_PER_TASK)
        with ThreadPoolExecutor(allowed_cores()) as pool:
            for problems in pool.map(partial(_broken_values, reader), starts):
                yield from problems


def _broken_pages(reader: BetonReader, extension: Extension, records_end: int) -> Iterator[Problem]:
    first = extension.start - len(extension.page_checksums) * reader.page_size
    ranges = page_ranges(first, extension.start, reader.page_size, records_end)
    for number, ((start, end), stored) in enumerate(
        zip(ranges, extension.page_checksums, strict=True)
    ):
        found = range_checksum(
            lambda offset, piece: reader.read_into(offset, len(piece), piece), start, end
        )
        if found != stored:
            yield Problem(
                None,
                None,
                f"page {number} (offsets {start} to {end}, {_samples_between(reader, start, end)}): "
                f"its checksum is {found:08x}, {stored:08x} was written.",
            )


def _samples_between(reader: BetonReader, start: int, end: int) -> str:
    """Which samples have values in a range of the file, in words."""
    touched = np.zeros(reader.num_samples, dtype=bool)
    for name, field in reader.fields.items():
        if field.pointer_name is not None:
            pointers, sizes = reader.extents(name)
            touched |= (sizes > 0) & (pointers >= start) & (pointers < end)
    samples = np.flatnonzero(touched)
    if len(samples) == 0:
        return "no samples"
    return (
        f"sample {samples[0]}"
        if len(samples) == 1
        else f"{len(samples)} samples from {samples[0]} to {samples[-1]}"
    )


def _broken_values(reader: BetonReader, start: int) -> list[Problem]:
    """Decode every value of one run of samples."""
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
