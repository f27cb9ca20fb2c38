"""The extension block: checksums and metadata that FFCV's format does not provide (`BETON.md`)."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ffcv_ssl.beton.format.layout import Header, align_up
from ffcv_ssl.beton.format.metadata import parse_metadata
from ffcv_ssl.errors import BetonFormatError, UnsupportedVersion

MAGIC = b"FFCVSSL1"
TRAILER_DTYPE = np.dtype(
    [
        ("magic", "S8"),
        ("block_length", "<u8"),
        ("block_crc", "<u4"),
        ("flags", "<u4"),
        ("reserved", "<u8"),
    ]
)
FLAG_VALUE_CHECKSUMS = 1  # the block holds one checksum per stored value
_CRC_POSITION = 16  # offset of block_crc in the trailer; it covers all bytes before itself
_CHUNK = 1 << 22  # bytes read at a time to compute a checksum


@dataclass(frozen=True)
class Extension:
    """Contents of the extension block.

    Parameters
    ----------
    metadata
        Contents of the JSON object.
    page_checksums
        (P,) uint32 CRC-32 of the last P pages before the block, in file order. If the first of them
        also holds header or records (the page size was raised while writing), its checksum starts
        behind the records.
    index_checksum
        CRC-32 of header, descriptors and records.
    table_checksum
        CRC-32 of the allocation table.
    value_checksums
        (T,) uint32 CRC-32 of the value of each row of the allocation table; None in older
        files, which have no value checksums.
    start
        File offset of the block, a multiple of the page size.
    checksum
        CRC-32 of the block itself.
    """

    metadata: dict[str, Any]
    page_checksums: NDArray[np.uint32]
    index_checksum: int
    table_checksum: int
    value_checksums: NDArray[np.uint32] | None
    start: int
    checksum: int


def extension_length(json_text: bytes, num_pages: int, num_values: int | None = None) -> int:
    """Return the length of an extension block in bytes.

    Parameters
    ----------
    json_text
        Metadata as UTF-8 JSON.
    num_pages
        Number of page checksums, >= 0.
    num_values
        Number of value checksums, >= 0; None for a block without value checksums.
    """
    length = 8 + align_up(len(json_text), 8) + align_up(8 + 4 * num_pages + 8, 8)
    if num_values is not None:
        length += align_up(8 + 4 * num_values, 8)
    return length + TRAILER_DTYPE.itemsize


def extension_to_bytes(
    json_text: bytes,
    page_checksums: NDArray[np.uint32],
    index_checksum: int,
    table_checksum: int,
    value_checksums: NDArray[np.uint32] | None = None,
) -> bytes:
    """Serialize an extension block.

    Parameters
    ----------
    json_text
        Metadata as UTF-8 JSON.
    page_checksums
        (P,) uint32, see `Extension`.
    index_checksum, table_checksum
        CRC-32, 0 to 2**32 - 1.
    value_checksums
        (T,) uint32, see `Extension`; None for a block without value checksums.
    """
    section_checksums = np.array([index_checksum, table_checksum], dtype="<u4")
    body = _counted(len(json_text), json_text)
    body += _counted(
        len(page_checksums), page_checksums.astype("<u4").tobytes(), section_checksums.tobytes()
    )
    if value_checksums is not None:
        body += _counted(len(value_checksums), value_checksums.astype("<u4").tobytes())
    length = len(body) + TRAILER_DTYPE.itemsize
    covered = body + MAGIC + length.to_bytes(8, "little")
    block_crc = zlib.crc32(covered).to_bytes(4, "little")
    flags = 0 if value_checksums is None else FLAG_VALUE_CHECKSUMS
    return covered + block_crc + flags.to_bytes(4, "little") + bytes(8)


def read_extension(read: Callable[[int, int], bytes], header: Header) -> Extension | None:
    """Find and parse the block that ends where the allocation table starts.

    Parameters
    ----------
    read
        Function that returns the bytes of the file at (offset, size). The file extends at least to
        the allocation table.
    header
        Header of the file.

    Returns
    -------
    Extension or None
        None for a file without a block, such as one from FFCV.

    Raises
    ------
    BetonFormatError
        If the block is damaged or inconsistent.
    UnsupportedVersion
        If the block has unknown flags.
    """
    end, lowest = header.alloc_table_ptr, header.records_start
    if end - TRAILER_DTYPE.itemsize < lowest:
        return None
    trailer_bytes = read(end - TRAILER_DTYPE.itemsize, TRAILER_DTYPE.itemsize)
    trailer = np.frombuffer(trailer_bytes, dtype=TRAILER_DTYPE)[0]
    if trailer["magic"] != MAGIC:
        return None
    length = int(trailer["block_length"])
    if not extension_length(b"", 0) <= length <= end - lowest:
        raise BetonFormatError(f"the extension block has an impossible length of {length} bytes.")
    flags = int(trailer["flags"])
    if flags not in (0, FLAG_VALUE_CHECKSUMS) or trailer["reserved"] != 0:
        raise UnsupportedVersion(
            f"the extension block has flags {flags:#x}, which this version does not support."
        )
    block = read(end - length, length)
    checksum = zlib.crc32(block[: length - TRAILER_DTYPE.itemsize + _CRC_POSITION])
    if checksum != trailer["block_crc"]:
        raise BetonFormatError("the extension block does not match its checksum.")
    return _parse_block(block, flags, end - length, header, checksum)


def page_ranges(first: int, end: int, page_size: int, records_end: int) -> list[tuple[int, int]]:
    """Return the file ranges that page checksums cover.

    Parameters
    ----------
    first
        File offset of the first page, a multiple of `page_size`.
    end
        File offset behind the last page.
    page_size
        Page size in bytes.
    records_end
        File offset where the records end. A range starts there if its page also holds records.

    Returns
    -------
    list of tuple
        (start, end) of each page, in file order.
    """
    starts = range(first, end, page_size)
    return [(max(start, records_end), start + page_size) for start in starts]


def range_checksum(read_into: Callable[[int, memoryview], None], start: int, end: int) -> int:
    """Compute the CRC-32 of the bytes [start, end) of a file.

    Parameters
    ----------
    read_into
        Function that fills a writable buffer with the bytes at (offset, buffer).
    start, end
        File offsets.
    """
    buffer = memoryview(bytearray(min(_CHUNK, end - start)))
    checksum = 0
    for offset in range(start, end, _CHUNK):
        chunk = buffer[: min(_CHUNK, end - offset)]
        read_into(offset, chunk)
        checksum = zlib.crc32(chunk, checksum)
    return checksum


def _parse_block(block: bytes, flags: int, start: int, header: Header, checksum: int) -> Extension:
    """Parse a block whose own checksum matches; its contents are still untrusted."""
    body = block[: -TRAILER_DTYPE.itemsize]
    json_length = int.from_bytes(body[:8], "little")
    pages_offset = 8 + align_up(json_length, 8)
    num_pages = int.from_bytes(body[pages_offset : pages_offset + 8], "little")
    values_offset = pages_offset + align_up(8 + 4 * num_pages + 8, 8)
    num_values = None
    if flags & FLAG_VALUE_CHECKSUMS:
        num_values = int.from_bytes(body[values_offset : values_offset + 8], "little")
    json_text = body[8 : 8 + json_length]
    if pages_offset > len(body) or extension_length(json_text, num_pages, num_values) != len(block):
        raise BetonFormatError("the parts of the extension block do not add up to its length.")
    if start % header.page_size or num_pages * header.page_size > start:
        raise BetonFormatError(
            f"the extension block at offset {start} cannot follow {num_pages} pages of "
            f"{header.page_size} bytes."
        )
    checksums = np.frombuffer(body, dtype="<u4", count=num_pages + 2, offset=pages_offset + 8)
    value_checksums = None
    if num_values is not None:
        value_checksums = np.frombuffer(
            body, dtype="<u4", count=num_values, offset=values_offset + 8
        )
    return Extension(
        metadata=parse_metadata(json_text),
        page_checksums=checksums[:-2],
        index_checksum=int(checksums[-2]),
        table_checksum=int(checksums[-1]),
        value_checksums=value_checksums,
        start=start,
        checksum=checksum,
    )


def _counted(count: int, *parts: bytes) -> bytes:
    """Serialize a part of the block: a count, the contents, zeros to a multiple of 8."""
    part = count.to_bytes(8, "little") + b"".join(parts)
    return part + bytes(-len(part) % 8)
