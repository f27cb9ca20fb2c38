"""A `.beton` file split into parts that can be changed, with recomputed checksums."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from ffcv_ssl.beton import BetonReader
from ffcv_ssl.beton.format.integrity import (
    TRAILER_DTYPE,
    extension_length,
    extension_to_bytes,
    page_ranges,
)
from ffcv_ssl.beton.format.layout import DESCRIPTOR_DTYPE, HEADER_DTYPE, TABLE_DTYPE

CRC_AT = 16  # offset of `block_crc` in the trailer; it covers all bytes before it
CHECKSUMS = ("values", "pages", "none")  # current files, earlier files, files by FFCV
_ZEROS = bytes(1 << 21)


@dataclass
class Block:
    """The extension block: its JSON and its checksums.

    `num_pages` and `num_values` are the numbers of checksums to store. None: the actual numbers.
    """

    json_text: bytes
    has_values: bool
    num_pages: int | None = None
    num_values: int | None = None


@dataclass
class Parts:
    """Sections of a file; `pieces` assembles them with correct checksums.

    Parameters
    ----------
    header, descriptors, records, table
        Arrays with the dtypes of the format.
    first_page, payload, pages_end
        Offset of the first page, its bytes without trailing zeros, and the end of the pages.
    block
        Extension block. None: no block, as in files by FFCV.
    header_edits
        Header fields to override.
    block_edits
        Functions that change the finished block in place; its own checksum is recomputed.
    edits
        (offset, bytes) to write into the finished file without recomputing checksums.
    length
        Size in bytes to truncate or extend the file to. None: unchanged.
    """

    header: np.ndarray
    descriptors: np.ndarray
    records: np.ndarray
    table: np.ndarray
    first_page: int
    payload: bytearray
    pages_end: int
    block: Block | None
    header_edits: dict[str, int] = field(default_factory=dict)
    block_edits: list[Callable[[bytearray], None]] = field(default_factory=list)
    edits: list[tuple[int, bytes]] = field(default_factory=list)
    length: int | None = None

    def copy(self) -> Parts:
        """Return a mutable copy."""
        arrays = {
            name: writable(getattr(self, name))
            for name in ("header", "descriptors", "records", "table")
        }
        lists = {name: list(getattr(self, name)) for name in ("block_edits", "edits")}
        block = None if self.block is None else replace(self.block)
        return replace(
            self,
            **arrays,
            **lists,
            payload=bytearray(self.payload),
            block=block,
            header_edits=dict(self.header_edits),
        )

    def with_checksums(self, checksums: str) -> Parts:
        """Return the file with another kind of checksums, one of `CHECKSUMS`."""
        parts = self.copy()
        if checksums == "none":
            parts.block = None
        elif parts.block is not None:
            parts.block.has_values = checksums == "values"
        return parts

    @property
    def page_size(self) -> int:
        """Page size in bytes, from the header of the original file."""
        return int(self.header["page_size"][0])

    @property
    def records_start(self) -> int:
        """File offset of the first record."""
        return HEADER_DTYPE.itemsize + self.descriptors.nbytes

    @property
    def records_end(self) -> int:
        """File offset after the last record."""
        return self.records_start + self.records.nbytes

    def stored(self, offset: int, size: int) -> bytes:
        """Return the bytes at a file offset; empty if the range is outside the pages."""
        if not self.first_page <= offset <= offset + size <= self.pages_end:
            return b""
        start = offset - self.first_page
        return bytes(self.payload[start : start + size]).ljust(size, b"\0")

    def store(self, row: int, value: bytes) -> int:
        """Append a value, store it in a row of the table, and return its offset."""
        start = len(self.payload) + (-len(self.payload) % 8)
        self.payload[len(self.payload) : start] = bytes(start - len(self.payload))
        self.payload += value or b"\0"
        self.table["ptr"][row], self.table["size"][row] = self.first_page + start, len(value)
        return self.first_page + start

    def pieces(self) -> tuple[list[tuple[int, bytes]], int]:
        """Return (offset, bytes) in the order of writing, and the length of the file."""
        block_length = 0 if self.block is None else self._block_length(self.block)
        table_start = self.pages_end + block_length
        header = writable(self.header)
        header["num_fields"], header["num_samples"] = (
            len(self.descriptors) & 0xFFFF,
            len(self.records),
        )
        header["alloc_table_ptr"] = table_start
        for name, value in self.header_edits.items():
            header[name] = value
        index = header.tobytes() + self.descriptors.tobytes() + self.records.tobytes()
        table = self.table.tobytes()
        block = b"" if self.block is None else self._block(self.block, index, table)
        sections = [
            (self.first_page, bytes(self.payload)),
            (0, index),
            (self.pages_end, block),
            (table_start, table),
        ]
        length = table_start + len(table) if self.length is None else self.length
        return [*sections, *self.edits], length

    def write(self, descriptor: int) -> int:
        """Overwrite an open file; return the new length."""
        pieces, length = self.pieces()
        os.ftruncate(descriptor, 0)
        for offset, data in pieces:
            os.pwrite(descriptor, data, offset)
        os.ftruncate(descriptor, length)
        return length

    def _num_pages(self, block: Block) -> int:
        own = (self.pages_end - self.first_page) // self.page_size
        return own if block.num_pages is None else block.num_pages

    def _num_values(self, block: Block) -> int | None:
        if not block.has_values:
            return None
        return len(self.table) if block.num_values is None else block.num_values

    def _block_length(self, block: Block) -> int:
        return extension_length(block.json_text, self._num_pages(block), self._num_values(block))

    def _block(self, block: Block, index: bytes, table: bytes) -> bytes:
        """Return the block with correct checksums and then with its edits applied."""
        num_values = self._num_values(block)
        value_checksums = None
        if num_values is not None:
            found = [
                zlib.crc32(self.stored(int(row["ptr"]), int(row["size"])))
                for row in self.table[:num_values]
            ]
            value_checksums = np.array(found + [0] * (num_values - len(found)), np.uint32)
        finished = bytearray(
            extension_to_bytes(
                block.json_text,
                self._page_checksums(block),
                zlib.crc32(index),
                zlib.crc32(table),
                value_checksums,
            )
        )
        for edit in self.block_edits:
            edit(finished)
        if self.block_edits:
            at = len(finished) - TRAILER_DTYPE.itemsize + CRC_AT
            finished[at : at + 4] = zlib.crc32(finished[:at]).to_bytes(4, "little")
        return bytes(finished)

    def _page_checksums(self, block: Block) -> np.ndarray:
        """Return the checksums of the pages before the block; 0 for pages before the file."""
        count = self._num_pages(block)
        first = self.pages_end - count * self.page_size
        inside = page_ranges(max(first, 0), self.pages_end, self.page_size, self.records_end)
        checksums = [self._range_checksum(start, end) for start, end in inside if start < end]
        return np.array([0] * (count - len(checksums)) + checksums, np.uint32)

    def _range_checksum(self, start: int, end: int) -> int:
        """Return the CRC-32 of a range after the records: zeros, payload, zeros."""
        inside = self.payload[max(start - self.first_page, 0) : max(end - self.first_page, 0)]
        lead = min(max(self.first_page - start, 0), end - start)
        checksum = zlib.crc32(inside, _zeros_checksum(lead, 0))
        return _zeros_checksum(end - start - lead - len(inside), checksum)


def writable(array: np.ndarray) -> np.ndarray:
    """Return a copy of records with their padding, which NumPy's copy may omit."""
    return np.frombuffer(bytearray(memoryview(array).cast("B")), array.dtype)


def _zeros_checksum(count: int, checksum: int) -> int:
    for done in range(0, count, len(_ZEROS)):
        checksum = zlib.crc32(memoryview(_ZEROS)[: count - done], checksum)
    return checksum


def take_apart(path: str | os.PathLike) -> Parts:
    """Split a small valid file whose records and values do not share a page."""
    with open(path, "rb") as file:
        data = file.read()
    with BetonReader(path) as reader:
        dtype, metadata_block = reader.records.dtype, reader._extension
    header = writable(np.frombuffer(data, HEADER_DTYPE, 1))
    num_fields, num_samples = int(header["num_fields"][0]), int(header["num_samples"][0])
    records_start = HEADER_DTYPE.itemsize + num_fields * DESCRIPTOR_DTYPE.itemsize
    records_end = records_start + num_samples * dtype.itemsize
    first_page = -(-records_end // int(header["page_size"][0])) * int(header["page_size"][0])
    start, table_start = metadata_block.start, int(header["alloc_table_ptr"][0])
    json_length = int.from_bytes(data[start : start + 8], "little")
    return Parts(
        header,
        writable(np.frombuffer(data, DESCRIPTOR_DTYPE, num_fields, HEADER_DTYPE.itemsize)),
        writable(np.frombuffer(data, dtype, num_samples, records_start)),
        writable(np.frombuffer(data, TABLE_DTYPE, offset=table_start)),
        first_page,
        bytearray(data[first_page:start].rstrip(b"\0")),
        start,
        Block(
            data[start + 8 : start + 8 + json_length], metadata_block.value_checksums is not None
        ),
    )
