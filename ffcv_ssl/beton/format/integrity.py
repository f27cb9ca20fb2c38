"""The extension block: checksums of everything, and what the format has no place for. FFCV never looks at it (BETON.md)."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

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
_CRC_POSITION = 16  # of block_crc in the trailer: it covers everything before itself
_CHUNK = 1 << 22  # bytes read at a time for checksums


@dataclass(frozen=True)
class Extension:
    """What the extension block says.

    Parameters
    ----------
    metadata
        Its JSON.
    page_checksums
        (P,) uint32: CRC-32 of the last P pages before the block, in file order. Where the first of them also holds header or records
        (the page size grew while writing), its checksum begins after the records.
    index_checksum
        CRC-32 of header, descriptors and records.
    table_checksum
        CRC-32 of the allocation table.
    value_checksums
        (rows of the allocation table,) uint32: CRC-32 of the value of each row. None in files that were
        written before there were any.
    start
        File offset of the block, a multiple of the page size.
    checksum
        CRC-32 of the block itself.
    """

    metadata: dict
    page_checksums: np.ndarray
    index_checksum: int
    table_checksum: int
    value_checksums: np.ndarray | None
    start: int
    checksum: int


def extension_length(json_text: bytes, num_pages: int, num_values: int | None = None) -> int:
    """Bytes of a block with this JSON and these numbers of checksums; None: none for the values."""
    length = 8 + align_up(len(json_text), 8) + align_up(8 + 4 * num_pages + 8, 8)
    if num_values is not None:
        length += align_up(8 + 4 * num_values, 8)
    return length + TRAILER_DTYPE.itemsize


def extension_to_bytes(
    json_text: bytes,
    page_checksums: np.ndarray,
    index_checksum: int,
    table_checksum: int,
    value_checksums: np.ndarray | None = None,
) -> bytes:
    """The block as it stands in the file."""
    of_sections = np.array([index_checksum, table_checksum], dtype="<u4")
    body = _counted(len(json_text), json_text)
    body += _counted(
        len(page_checksums), page_checksums.astype("<u4").tobytes(), of_sections.tobytes()
    )
    if value_checksums is not None:
        body += _counted(len(value_checksums), value_checksums.astype("<u4").tobytes())
    length = len(body) + TRAILER_DTYPE.itemsize
    beginning = body + MAGIC + length.to_bytes(8, "little")
    flags = 0 if value_checksums is None else FLAG_VALUE_CHECKSUMS
    return (
        beginning
        + zlib.crc32(beginning).to_bytes(4, "little")
        + flags.to_bytes(4, "little")
        + bytes(8)
    )


def read_extension(read: Callable[[int, int], bytes], header: Header) -> Extension | None:
    """Find and read the block that ends where the allocation table begins; None if there is none, as in FFCV's own files.

    Parameters
    ----------
    read
        (offset, size) to bytes; the file reaches at least to the allocation table.
    header
        Of the file.

    Raises
    ------
    BetonFormatError, UnsupportedVersion
        If there is a block and it is broken or of another kind.
    """
    end, lowest = header.alloc_table_ptr, header.records_start
    if end - TRAILER_DTYPE.itemsize < lowest:
        return None
    trailer = np.frombuffer(
        read(end - TRAILER_DTYPE.itemsize, TRAILER_DTYPE.itemsize), dtype=TRAILER_DTYPE
    )[0]
    if trailer["magic"] != MAGIC:
        return None
    length = int(trailer["block_length"])
    if not extension_length(b"", 0) <= length <= end - lowest:
        raise BetonFormatError(f"the extension block is said to have {length} bytes.")
    flags = int(trailer["flags"])
    if flags not in (0, FLAG_VALUE_CHECKSUMS) or trailer["reserved"] != 0:
        raise UnsupportedVersion(
            f"the extension block has flags {flags:#x}, which this version of the package does not know."
        )
    block = read(end - length, length)
    checksum = zlib.crc32(block[: length - TRAILER_DTYPE.itemsize + _CRC_POSITION])
    if checksum != trailer["block_crc"]:
        raise BetonFormatError("the extension block does not match its checksum.")
    return _parse_block(block, flags, end - length, header, checksum)


def page_ranges(first: int, end: int, page_size: int, records_end: int) -> list[tuple[int, int]]:
    """File ranges (start, end) of the pages from `first` to `end`; the first one begins after the records."""
    return [(max(start, records_end), start + page_size) for start in range(first, end, page_size)]


def range_checksum(read_into: Callable[[int, memoryview], None], start: int, end: int) -> int:
    """CRC-32 of a range of the file, read in pieces by `read_into(offset, buffer)`."""
    buffer = memoryview(bytearray(min(_CHUNK, end - start)))
    checksum = 0
    for offset in range(start, end, _CHUNK):
        piece = buffer[: min(_CHUNK, end - offset)]
        read_into(offset, piece)
        checksum = zlib.crc32(piece, checksum)
    return checksum


def _parse_block(block: bytes, flags: int, start: int, header: Header, checksum: int) -> Extension:
    """Take a block apart whose own checksum is right; its contents may still be nonsense."""
    body = block[: -TRAILER_DTYPE.itemsize]
    json_length = int.from_bytes(body[:8], "little")
    pages_at = 8 + align_up(json_length, 8)
    num_pages = int.from_bytes(body[pages_at : pages_at + 8], "little")
    values_at = pages_at + align_up(8 + 4 * num_pages + 8, 8)
    num_values = (
        int.from_bytes(body[values_at : values_at + 8], "little")
        if flags & FLAG_VALUE_CHECKSUMS
        else None
    )
    if pages_at > len(body) or extension_length(
        body[8 : 8 + json_length], num_pages, num_values
    ) != len(block):
        raise BetonFormatError("the parts of the extension block do not add up to its length.")
    if start % header.page_size or num_pages * header.page_size > start:
        raise BetonFormatError(
            f"the extension block at offset {start} cannot follow {num_pages} pages of {header.page_size} bytes."
        )
    checksums = np.frombuffer(body, dtype="<u4", count=num_pages + 2, offset=pages_at + 8)
    of_values = None
    if num_values is not None:
        of_values = np.frombuffer(body, dtype="<u4", count=num_values, offset=values_at + 8)
    return Extension(
        metadata=parse_metadata(body[8 : 8 + json_length]),
        page_checksums=checksums[:-2],
        index_checksum=int(checksums[-2]),
        table_checksum=int(checksums[-1]),
        value_checksums=of_values,
        start=start,
        checksum=checksum,
    )


def _counted(count: int, *parts: bytes) -> bytes:
    """A part of the block: how much there is, what there is, zeros to a multiple of 8."""
    part = count.to_bytes(8, "little") + b"".join(parts)
    return part + bytes(-len(part) % 8)
