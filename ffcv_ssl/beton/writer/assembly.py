"""A file in the making: encoded samples become pages, records and table, and at the end a header that makes it valid."""

from __future__ import annotations

import json
import warnings
import zlib
from collections import Counter
from collections.abc import Mapping

import numpy as np

from ffcv_ssl.beton.format.integrity import extension_length, extension_to_bytes
from ffcv_ssl.beton.format.layout import (
    HEADER_DTYPE,
    TABLE_DTYPE,
    Header,
    align_up,
    descriptors_to_bytes,
    record_dtype,
)
from ffcv_ssl.beton.writer.encoding import Batch, SkippedSample, StoredValue, reserved
from ffcv_ssl.beton.writer.pages import PageWriter
from ffcv_ssl.fields.base import Encoded, Field
from ffcv_ssl.system.files import write_exactly


class Assembly:
    """Writes the parts of one .beton file.

    Parameters
    ----------
    descriptor
        Of an empty file, open for reading and writing.
    fields
        By name, in file order.
    capacity
        Most samples that can come.
    page_size
        Bytes, at first.

    Attributes
    ----------
    num_samples
        Stored so far.
    notes
        How often the fields gave each note.
    skipped
        Samples left out, in file order.
    """

    def __init__(self, descriptor: int, fields: Mapping[str, Field], capacity: int, page_size: int):
        self._descriptor = descriptor
        self._fields = list(fields.values())
        self._descriptors = descriptors_to_bytes(fields)
        self._records = np.zeros(capacity, dtype=record_dtype(fields))
        num_pointers = sum(field.pointer_name is not None for field in self._fields)
        self._table = np.zeros((capacity, num_pointers), dtype=TABLE_DTYPE)
        self._table["sample_id"] = np.arange(capacity)[:, np.newaxis]
        self._checksums = np.zeros((capacity, num_pointers), dtype=np.uint32)
        self._records_start = HEADER_DTYPE.itemsize + len(self._descriptors)
        self._pages = PageWriter(
            descriptor, align_up(self._records_start + self._records.nbytes, page_size), page_size
        )
        self.num_samples = 0
        self.notes: Counter[str] = Counter()
        self.skipped: list[SkippedSample] = []

    def add(self, batch: Batch) -> None:
        """Write the payload of the next samples and keep their records and extents; OSError if the disk does not take it."""
        samples: list[list[StoredValue]] = []
        for sample in batch.samples:
            if isinstance(sample, SkippedSample):
                self.skipped.append(sample)
            else:
                samples.append(sample)
        if not samples:
            return
        offsets = self._pages.append(batch.payload, [_stored_size(sample) for sample in samples])
        payload = memoryview(batch.payload)
        rows, extents = [], []
        for sample, offset in zip(samples, offsets, strict=True):
            row, values = self._record(sample, payload, offset)
            payload = payload[_stored_size(sample) :]
            rows.append(row)
            extents += values
        added = slice(self.num_samples, self.num_samples + len(samples))
        _assign(self._records[added], rows)
        found = np.array(extents, dtype=np.uint64).reshape(*self._table[added].shape, 3)
        self._table["ptr"][added], self._table["size"][added] = found[..., 0], found[..., 1]
        self._checksums[added] = found[..., 2]
        self.num_samples = added.stop

    def finish(self, metadata: Mapping[str, object]) -> tuple[int, int]:
        """Write everything but the pages, the header last; return the file's size and its page size, in bytes."""
        records, table = (
            self._records[: self.num_samples],
            self._table[: self.num_samples].reshape(-1),
        )
        of_values = self._checksums[: self.num_samples].reshape(-1)
        block_start, page_checksums = self._pages.finish(self._records_start + records.nbytes)
        json_text = json.dumps(metadata).encode("ascii")
        table_start = block_start + extension_length(json_text, len(page_checksums), len(of_values))
        header = Header(
            len(self._fields), self._pages.page_size, self.num_samples, table_start
        ).to_bytes()
        index = self._descriptors + records.tobytes()
        index_checksum = zlib.crc32(index, zlib.crc32(header))
        table_bytes = table.tobytes()
        block = extension_to_bytes(
            json_text, page_checksums, index_checksum, zlib.crc32(table_bytes), of_values
        )
        for offset, content in (
            (block_start, block),
            (table_start, table_bytes),
            (len(header), index),
            (0, header),
        ):
            write_exactly(self._descriptor, offset, content)
        return table_start + len(table_bytes), self._pages.page_size

    def _record(
        self, sample: list[StoredValue], payload: memoryview, offset: int
    ) -> tuple[tuple, list[tuple[int, int, int]]]:
        """The record of one sample whose values begin at a file offset, and (offset, size, CRC-32) of each."""
        row, extents, position = [], [], 0
        for field, (parts, size, note, checksum) in zip(self._fields, sample, strict=True):
            if note is not None:
                self.notes[note] += 1
            stored = None if size is None else payload[position : position + size]
            record = field.record(
                Encoded(stored, parts, note), 0 if size is None else offset + position
            )
            row.append(record if field.record_dtype.names else record[0])
            if size is not None:
                extents.append((offset + position, size, checksum))
                position += reserved(size)
        return tuple(row), extents


def _stored_size(sample: list[StoredValue]) -> int:
    """Bytes that the values of a sample take in their page."""
    return sum(reserved(value.size) for value in sample if value.size is not None)


def _assign(records: np.ndarray, rows: list[tuple]) -> None:
    """Fill records; OverflowError for a value that its type cannot hold, which NumPy 1 would wrap with a mere warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)
        try:
            records[...] = rows
        except DeprecationWarning as error:
            raise OverflowError(str(error)) from error
