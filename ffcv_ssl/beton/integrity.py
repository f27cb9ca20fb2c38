"""The extension block: checksums of everything, and what the format has no place for. FFCV never looks at it (BETON.md)."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ffcv_ssl.beton.layout import Header, align_up
from ffcv_ssl.errors import BetonFormatError, UnsupportedVersion

MAGIC = b"FFCVSSL1"
TRAILER_DTYPE = np.dtype([("magic", "S8"), ("block_length", "<u8"), ("block_crc", "<u4"), ("flags", "<u4"), ("reserved", "<u8")])
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
    start
        File offset of the block, a multiple of the page size.
    checksum
        CRC-32 of the block itself.
    """

    metadata: dict
    page_checksums: np.ndarray
    index_checksum: int
    table_checksum: int
    start: int
    checksum: int


def extension_length(json_text: bytes, num_pages: int) -> int:
    """Bytes of a block with this JSON and so many page checksums."""
    return 8 + align_up(len(json_text), 8) + align_up(8 + 4 * num_pages + 8, 8) + TRAILER_DTYPE.itemsize


def extension_to_bytes(json_text: bytes, page_checksums: np.ndarray, index_checksum: int, table_checksum: int) -> bytes:
    """The block as it stands in the file."""
    checksums = np.concatenate([page_checksums, [index_checksum, table_checksum]]).astype("<u4").tobytes()
    body = len(json_text).to_bytes(8, "little") + _padded(json_text) + _padded(len(page_checksums).to_bytes(8, "little") + checksums)
    length = len(body) + TRAILER_DTYPE.itemsize
    beginning = body + MAGIC + length.to_bytes(8, "little")
    return beginning + zlib.crc32(beginning).to_bytes(4, "little") + bytes(12)


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
    trailer = np.frombuffer(read(end - TRAILER_DTYPE.itemsize, TRAILER_DTYPE.itemsize), dtype=TRAILER_DTYPE)[0]
    if trailer["magic"] != MAGIC:
        return None
    length = int(trailer["block_length"])
    if not extension_length(b"", 0) <= length <= end - lowest:
        raise BetonFormatError(f"the extension block is said to have {length} bytes.")
    if trailer["flags"] != 0 or trailer["reserved"] != 0:
        raise UnsupportedVersion(f"the extension block has flags {trailer['flags']:#x}, which this version of the package does not know.")
    block = read(end - length, length)
    checksum = zlib.crc32(block[: length - TRAILER_DTYPE.itemsize + _CRC_POSITION])
    if checksum != trailer["block_crc"]:
        raise BetonFormatError("the extension block does not match its checksum.")
    return _parse_block(block, end - length, header, checksum)


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


def _parse_block(block: bytes, start: int, header: Header, checksum: int) -> Extension:
    """Take a block apart whose own checksum is right; its contents may still be nonsense."""
    body = block[: -TRAILER_DTYPE.itemsize]
    json_length = int.from_bytes(body[:8], "little")
    checksums_at = 8 + align_up(json_length, 8)
    num_pages = int.from_bytes(body[checksums_at : checksums_at + 8], "little")
    if checksums_at > len(body) or extension_length(body[8 : 8 + json_length], num_pages) != len(block):
        raise BetonFormatError("the parts of the extension block do not add up to its length.")
    if start % header.page_size or num_pages * header.page_size > start:
        raise BetonFormatError(f"the extension block at offset {start} cannot follow {num_pages} pages of {header.page_size} bytes.")
    try:
        metadata = json.loads(body[8 : 8 + json_length].decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise BetonFormatError(f"the JSON of the extension block cannot be read: {error}.") from error
    if not isinstance(metadata, dict):
        raise BetonFormatError(f"the JSON of the extension block is a {type(metadata).__name__}, not an object.")
    checksums = np.frombuffer(body, dtype="<u4", count=num_pages + 2, offset=checksums_at + 8)
    return Extension(metadata, checksums[:-2], int(checksums[-2]), int(checksums[-1]), start, checksum)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 8)
