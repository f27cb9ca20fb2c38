"""Assembly of a file: pages while samples arrive, then the other sections, the header last."""

from __future__ import annotations

import json
import warnings
import zlib
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ffcv_ssl.beton.format.integrity import extension_length, extension_to_bytes
from ffcv_ssl.beton.format.layout import (
    HEADER_DTYPE,
    TABLE_DTYPE,
    Header,
    align_up,
    descriptors_to_bytes,
    record_dtype,
)
from ffcv_ssl.beton.writer.encoding import Batch, SkippedSample, StoredValue, reserved_size
from ffcv_ssl.beton.writer.pages import PageWriter
from ffcv_ssl.fields.base import Encoded, Field
from ffcv_ssl.system.files import write_exactly


class Assembly:
    """Writer of the sections of one .beton file.

    Parameters
    ----------
    descriptor
        Descriptor of an empty file, open for reading and writing.
    fields
        Fields by name, in file order.
    capacity
        Maximum number of samples.
    page_size
        Initial page size in bytes.

    Attributes
    ----------
    num_samples
        Number of samples stored so far.
    notes
        Number of values per note of the fields.
    skipped
        Skipped samples, in file order.
    """

    def __init__(
        self, descriptor: int, fields: Mapping[str, Field], capacity: int, page_size: int
    ) -> None:
        self._descriptor = descriptor
        self._fields = list(fields.values())
        self._descriptors = descriptors_to_bytes(fields)
        self._records = np.zeros(capacity, dtype=record_dtype(fields))
        num_pointers = sum(field.pointer_name is not None for field in self._fields)
        self._table = np.zeros((capacity, num_pointers), dtype=TABLE_DTYPE)
        self._table["sample_id"] = np.arange(capacity)[:, np.newaxis]
        self._checksums = np.zeros((capacity, num_pointers), dtype=np.uint32)
        self._records_start = HEADER_DTYPE.itemsize + len(self._descriptors)
        pages_start = align_up(self._records_start + self._records.nbytes, page_size)
        self._pages = PageWriter(descriptor, pages_start, page_size)
        self.num_samples = 0
        self.notes: Counter[str] = Counter()
        self.skipped: list[SkippedSample] = []

    def add(self, batch: Batch) -> None:
        """Write the values of a batch to pages; keep its records and extents in memory.

        Raise OSError if the bytes cannot be written.
        """
        samples: list[list[StoredValue]] = []
        for sample in batch.samples:
            if isinstance(sample, SkippedSample):
                self.skipped.append(sample)
            else:
                samples.append(sample)
        if not samples:
            return
        sizes = [_stored_size(sample) for sample in samples]
        offsets = self._pages.append(batch.payload, sizes)
        payload = memoryview(batch.payload)
        rows, extents = [], []
        for sample, size, offset in zip(samples, sizes, offsets, strict=True):
            row, values = self._record(sample, payload, offset)
            payload = payload[size:]
            rows.append(row)
            extents += values
        added = slice(self.num_samples, self.num_samples + len(samples))
        _assign(self._records[added], rows)
        columns = np.array(extents, dtype=np.uint64).reshape(*self._table[added].shape, 3)
        self._table["ptr"][added], self._table["size"][added] = columns[..., 0], columns[..., 1]
        self._checksums[added] = columns[..., 2]
        self.num_samples = added.stop

    def finish(self, metadata: Mapping[str, object]) -> tuple[int, int]:
        """Write all remaining sections, the header last.

        Parameters
        ----------
        metadata
            Contents of the JSON object of the extension block.

        Returns
        -------
        tuple of int
            Size of the file and page size, in bytes.
        """
        records = self._records[: self.num_samples]
        table = self._table[: self.num_samples].reshape(-1)
        value_checksums = self._checksums[: self.num_samples].reshape(-1)
        records_end = self._records_start + records.nbytes
        block_start, page_checksums = self._pages.finish(records_end)
        json_text = json.dumps(metadata).encode("ascii")
        table_start = block_start + extension_length(
            json_text, len(page_checksums), len(value_checksums)
        )
        page_size = self._pages.page_size
        header = Header(len(self._fields), page_size, self.num_samples, table_start).to_bytes()
        index = self._descriptors + records.tobytes()
        table_bytes = table.tobytes()
        block = extension_to_bytes(
            json_text,
            page_checksums,
            zlib.crc32(index, zlib.crc32(header)),
            zlib.crc32(table_bytes),
            value_checksums,
        )
        write_exactly(self._descriptor, block_start, block)
        write_exactly(self._descriptor, table_start, table_bytes)
        write_exactly(self._descriptor, len(header), index)
        write_exactly(self._descriptor, 0, header)
        return table_start + len(table_bytes), page_size

    def _record(
        self, sample: list[StoredValue], payload: memoryview, offset: int
    ) -> tuple[tuple[Any, ...], list[tuple[int, int, int]]]:
        """Return the record of a sample whose values start at a file offset.

        Also return (offset, size, CRC-32) of each value.
        """
        row, extents, position = [], [], 0
        for field, (parts, size, note, checksum) in zip(self._fields, sample, strict=True):
            if note is not None:
                self.notes[note] += 1
            stored = None if size is None else payload[position : position + size]
            pointer = 0 if size is None else offset + position
            record = field.record(Encoded(stored, parts, note), pointer)
            row.append(record if field.record_dtype.names else record[0])
            if size is not None:
                extents.append((pointer, size, checksum))
                position += reserved_size(size)
        return tuple(row), extents


def _stored_size(sample: list[StoredValue]) -> int:
    """Return the number of bytes that the values of a sample occupy in their page."""
    return sum(reserved_size(value.size) for value in sample if value.size is not None)


def _assign(records: NDArray[Any], rows: list[tuple[Any, ...]]) -> None:
    """Fill records; raise OverflowError for a value out of range, as NumPy 2 does.

    NumPy 1 wraps such a value and issues a DeprecationWarning.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)
        try:
            records[...] = rows
        except DeprecationWarning as error:
            raise OverflowError(str(error)) from error
