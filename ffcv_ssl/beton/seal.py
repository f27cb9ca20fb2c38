"""Addition of checksums to files from FFCV and from older versions of this package."""

from __future__ import annotations

import json
import os
import stat
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

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

_COPY_BYTES = 1 << 24  # bytes copied at a time
_MAX_LISTED = 5  # damaged values listed in the error message


def seal(path: str | bytes | os.PathLike[str]) -> bool:
    """Add the checksums of all stored values to a file, after decoding every value.

    The new file replaces the old one atomically, so an interrupted run leaves the file unchanged.
    Values, records and their order are the same as before, and FFCV reads the file as before.

    Parameters
    ----------
    path
        Path of the file; `~` is expanded.

    Returns
    -------
    bool
        Whether checksums were added; False if the file already has them.

    Raises
    ------
    BetonFormatError
        If the file or one of its values is damaged. The file is not changed.
    OSError
        If the new file cannot be written.
    """
    target = resolve_target(path)
    with BetonReader(target) as reader:
        if reader.has_value_checksums:
            return False
        _check_values(reader)
        with unwinding_on_signals(), replacing(target) as descriptor:
            os.fchmod(descriptor, stat.S_IMODE(os.fstat(reader.fileno()).st_mode))
            _write_sealed(reader, descriptor)
    return True


def _check_values(reader: BetonReader) -> None:
    """Decode every value; raise BetonFormatError with the first damaged ones."""
    damaged = [problem for problem in reader.verify() if not problem.is_harmless]
    if damaged:
        listed = "; ".join(
            f"sample {problem.sample_id}, field {problem.field!r}: {problem.message}"
            if problem.field
            else problem.message
            for problem in damaged[:_MAX_LISTED]
        )
        num_more = len(damaged) - _MAX_LISTED
        more = f" … and {num_more:,} more" if num_more > 0 else ""
        raise BetonFormatError(
            f"{reader.path}: not sealed, because its checksums would confirm damaged values: "
            f"{listed}{more}. `ffcv-ssl verify` lists all of them; write the file again from its "
            "source."
        )


def _write_sealed(reader: BetonReader, descriptor: int) -> None:
    """Copy everything up to the last page, then write extension block, table and header."""
    old, table = reader.header, reader.read_table()
    end = reader.pages_end
    block_start = align_up(end, reader.page_size)
    for offset in range(0, end, _COPY_BYTES):
        write_exactly(descriptor, offset, _read(reader, offset, min(_COPY_BYTES, end - offset)))
    os.ftruncate(descriptor, block_start)
    value_checksums = _value_checksums(reader, table)
    page_checksums = _page_checksums(reader, block_start, descriptor)
    json_text = json.dumps(_metadata(reader)).encode("ascii")
    table_start = block_start + extension_length(
        json_text, len(page_checksums), len(value_checksums)
    )
    header = Header(old.num_fields, old.page_size, old.num_samples, table_start).to_bytes()
    index = _read(reader, len(header), reader.records_end - len(header))
    table_bytes = table.tobytes()
    block = extension_to_bytes(
        json_text,
        page_checksums,
        zlib.crc32(index, zlib.crc32(header)),
        zlib.crc32(table_bytes),
        value_checksums,
    )
    write_exactly(descriptor, block_start, block)
    write_exactly(descriptor, table_start, table_bytes)
    write_exactly(descriptor, 0, header)


def _read(reader: BetonReader, offset: int, size: int) -> bytearray:
    buffer = bytearray(size)
    reader.read_into(offset, size, buffer)
    return buffer


def _value_checksums(reader: BetonReader, table: NDArray[Any]) -> NDArray[np.uint32]:
    """Compute the (T,) uint32 CRC-32 of the values by table row; 0 for rows that are not used."""
    used: dict[tuple[int, int], int] = {}
    for name in reader.stored_fields:
        pointers, sizes = reader.extents(name)
        used.update(dict.fromkeys(zip(pointers.tolist(), sizes.tolist(), strict=True), 0))
    for pointer, size in sorted(used):
        used[pointer, size] = zlib.crc32(_read(reader, pointer, size)) if size else 0
    rows = zip(table["ptr"].tolist(), table["size"].tolist(), strict=True)
    return np.fromiter((used.get(row, 0) for row in rows), dtype=np.uint32, count=len(table))


def _page_checksums(reader: BetonReader, block_start: int, descriptor: int) -> NDArray[np.uint32]:
    """Compute the (P,) uint32 CRC-32 of all pages from the first that contains a value."""
    stored = [reader.extents(name) for name in reader.stored_fields]
    starts = [int(pointers[sizes > 0].min()) for pointers, sizes in stored if (sizes > 0).any()]
    first = min(starts) // reader.page_size * reader.page_size if starts else block_start
    ranges = page_ranges(first, block_start, reader.page_size, reader.records_end)

    def read_into(offset: int, buffer: memoryview) -> None:
        read_exactly(descriptor, offset, buffer, "the temporary file")

    return np.array([range_checksum(read_into, *each) for each in ranges], dtype=np.uint32)


def _metadata(reader: BetonReader) -> dict[str, Any]:
    """Return the metadata of the file, or what can be derived for a file from FFCV."""
    metadata = reader.metadata or {
        "fields": {name: field.describe() for name, field in reader.fields.items()},
        "record": dtype_to_json(reader.records.dtype),
        "counts": {"samples": reader.num_samples},
    }
    return {**metadata, "sealed": f"ffcv_ssl {__version__}"}
