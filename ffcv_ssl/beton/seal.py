"""Give a file of FFCV's, or an older one of ours, the checksums that this package writes today."""

from __future__ import annotations

import json
import os
import stat
import zlib
from typing import Any

import numpy as np

from ffcv_ssl import __version__
from ffcv_ssl.beton.format.integrity import (
    extension_length,
    extension_to_bytes,
    page_ranges,
    range_checksum,
)
from ffcv_ssl.beton.format.layout import Header, align_up
from ffcv_ssl.beton.format.schema import dtype_to_json
from ffcv_ssl.beton.reader import BetonReader
from ffcv_ssl.errors import BetonFormatError
from ffcv_ssl.system.atomic import replacing, resolve_target
from ffcv_ssl.system.files import read_exactly, write_exactly
from ffcv_ssl.system.signals import unwinding_on_signals

_PIECE = 1 << 24  # bytes copied at a time
_NAMED = 5  # broken values named in the error


def seal(path: str | os.PathLike) -> bool:
    """Add the checksums of all stored values to a file, after every value has been decoded.

    The file is written anew beside the old one, which it replaces at the end: a failed or killed run leaves
    it as it was. Values, records and order stay; FFCV reads it as before.

    Parameters
    ----------
    path
        Of the file.

    Returns
    -------
    bool
        Whether checksums were added; False if the file has them already.

    Raises
    ------
    BetonFormatError
        If the file or one of its values is damaged; the file is left as it is.
    OSError
        If the disk does not take the new file.
    """
    target = resolve_target(path)
    with BetonReader(target) as reader:
        if reader.has_value_checksums:
            return False
        _check_values(reader)
        with unwinding_on_signals(), replacing(target) as descriptor:
            os.fchmod(descriptor, stat.S_IMODE(os.fstat(reader.fileno()).st_mode))
            _write(reader, descriptor)
    return True


def _check_values(reader: BetonReader) -> None:
    """Decode everything; name what is broken."""
    broken = [problem for problem in reader.verify() if not problem.is_harmless]
    if broken:
        listed = "; ".join(
            f"sample {problem.sample_id}, field {problem.field!r}: {problem.message}"
            if problem.field
            else problem.message
            for problem in broken[:_NAMED]
        )
        more = f" … and {len(broken) - _NAMED:,} more" if len(broken) > _NAMED else ""
        raise BetonFormatError(
            f"{reader.path}: not sealed, as checksums would declare broken values good. Broken: {listed}{more}. "
            "`ffcv-ssl verify` lists all; write the file again from its source."
        )


def _write(reader: BetonReader, descriptor: int) -> None:
    """Write the sealed file: everything up to the last page as it is, then block, table and header."""
    old, table = reader.header, reader.read_table()
    end = reader.pages_end
    block_start = align_up(end, reader.page_size)
    for offset in range(0, end, _PIECE):
        write_exactly(descriptor, offset, _read(reader, offset, min(_PIECE, end - offset)))
    os.ftruncate(descriptor, block_start)
    of_values = _value_checksums(reader, table)
    of_pages = _page_checksums(reader, block_start, descriptor)
    json_text = json.dumps(_metadata(reader)).encode("ascii")
    table_start = block_start + extension_length(json_text, len(of_pages), len(of_values))
    header = Header(old.num_fields, old.page_size, old.num_samples, table_start).to_bytes()
    index = _read(reader, len(header), reader.records_end - len(header))
    index_checksum = zlib.crc32(index, zlib.crc32(header))
    table_bytes = table.tobytes()
    block = extension_to_bytes(
        json_text, of_pages, index_checksum, zlib.crc32(table_bytes), of_values
    )
    for offset, content in ((block_start, block), (table_start, table_bytes), (0, header)):
        write_exactly(descriptor, offset, content)


def _read(reader: BetonReader, offset: int, size: int) -> bytearray:
    buffer = bytearray(size)
    reader.read_into(offset, size, buffer)
    return buffer


def _value_checksums(reader: BetonReader, table: np.ndarray) -> np.ndarray:
    """CRC-32 of the value of each row of the table, (T,) uint32; 0 for rows that no record uses."""
    used: dict[tuple[int, int], int] = {}
    for name in reader.stored_fields:
        pointers, sizes = reader.extents(name)
        used.update(dict.fromkeys(zip(pointers.tolist(), sizes.tolist(), strict=True), 0))
    for pointer, size in sorted(used):
        used[pointer, size] = zlib.crc32(_read(reader, pointer, size)) if size else 0
    rows = zip(table["ptr"].tolist(), table["size"].tolist(), strict=True)
    return np.fromiter((used.get(row, 0) for row in rows), dtype=np.uint32, count=len(table))


def _page_checksums(reader: BetonReader, block_start: int, descriptor: int) -> np.ndarray:
    """CRC-32 of the pages from the first that holds a value, (P,) uint32."""
    stored = [reader.extents(name) for name in reader.stored_fields]
    starts = [int(pointers[sizes > 0].min()) for pointers, sizes in stored if (sizes > 0).any()]
    first = min(starts) // reader.page_size * reader.page_size if starts else block_start
    ranges = page_ranges(first, block_start, reader.page_size, reader.records_end)

    def read_into(offset: int, piece: memoryview) -> None:
        read_exactly(descriptor, offset, piece, "the temporary file")

    return np.array([range_checksum(read_into, *each) for each in ranges], dtype=np.uint32)


def _metadata(reader: BetonReader) -> dict[str, Any]:
    """What the file says of itself, or what can be known of one of FFCV's."""
    known = reader.metadata or {
        "fields": {name: field.describe() for name, field in reader.fields.items()},
        "record": dtype_to_json(reader.records.dtype),
        "counts": {"samples": reader.num_samples},
    }
    return {**known, "sealed": f"ffcv_ssl {__version__}"}
