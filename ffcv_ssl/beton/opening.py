"""Opening a .beton file: read and validate everything except the stored values."""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ffcv_ssl.beton.format.index import Extents, locate_values
from ffcv_ssl.beton.format.integrity import Extension, read_extension
from ffcv_ssl.beton.format.layout import (
    DESCRIPTOR_DTYPE,
    HEADER_DTYPE,
    TABLE_DTYPE,
    Header,
    parse_descriptors,
    parse_header,
)
from ffcv_ssl.beton.format.schema import parse_schema
from ffcv_ssl.beton.format.sections import (
    check_checksums,
    check_sections,
    data_region,
    find_pages_end,
    value_checksums,
)
from ffcv_ssl.errors import BetonFormatError, FieldNotFound
from ffcv_ssl.fields.base import Field
from ffcv_ssl.system.files import read_exactly
from ffcv_ssl.system.names import did_you_mean


@dataclass(frozen=True)
class FileIndex:
    """Validated contents of a file, except the stored values.

    Parameters
    ----------
    header
        Header of the file.
    extension
        Extension block; None in files from FFCV.
    fields
        Fields by name, in file order.
    records
        (num_samples,) structured array, read-only, one column per field.
    records_end, pages_end
        File offsets behind the records and behind the last page.
    extents
        For each field with payload: (num_samples,) uint64 file offsets and sizes in bytes.
    checksums
        For each field with payload: (num_samples,) uint32 CRC-32. Empty without value checksums.
    fingerprint
        16 hex digits that identify the contents of the file.
    """

    header: Header
    extension: Extension | None
    fields: dict[str, Field]
    records: NDArray[Any]
    records_end: int
    pages_end: int
    extents: dict[str, Extents]
    checksums: dict[str, NDArray[np.uint32]]
    fingerprint: str


class OpenFile:
    """Positioned reads from an open file.

    Parameters
    ----------
    descriptor
        Descriptor of a regular file that is open for reading.
    path
        Path of the file, for error messages.
    """

    def __init__(self, descriptor: int, path: str) -> None:
        self.path, self._descriptor = path, descriptor

    @property
    def size(self) -> int:
        """Current size of the file in bytes."""
        return os.fstat(self._descriptor).st_size

    def read_bytes(self, offset: int, size: int) -> bytes:
        """Return `size` bytes from a file offset; raise TruncatedFile if the file is shorter."""
        buffer = bytearray(size)
        read_exactly(self._descriptor, offset, memoryview(buffer), self.path)
        return bytes(buffer)

    def read_array(self, offset: int, count: int, dtype: np.dtype[Any]) -> NDArray[Any]:
        """Return a read-only (count,) array from a file offset; raise as `read_bytes`."""
        array = np.empty(count, dtype=dtype)
        if array.nbytes:
            read_exactly(self._descriptor, offset, _memory_of(array), self.path)
        array.flags.writeable = False
        return array

    def read_table(self, header: Header) -> NDArray[Any]:
        """Return the (T,) allocation table of `layout.TABLE_DTYPE`, in file order."""
        start = header.alloc_table_ptr
        return self.read_array(start, (self.size - start) // TABLE_DTYPE.itemsize, TABLE_DTYPE)


def read_index(file: OpenFile, custom_fields: Mapping[str, type[Field]]) -> FileIndex:
    """Read and validate everything except the stored values.

    Parameters
    ----------
    file
        The open file.
    custom_fields
        Field classes of custom fields, by field name.

    Raises
    ------
    BetonFormatError
        If the file violates the format; the message starts with the path.
    FieldNotFound
        If `custom_fields` contains a name that is not a field of the file.
    """
    try:
        return _read_index(file, custom_fields)
    except BetonFormatError as error:
        message = str(error)
        if message.startswith(file.path):
            raise
        raise type(error)(f"{file.path}: {message}") from error


def check_field_name(fields: Mapping[str, Field], name: str, path: str) -> None:
    """Raise FieldNotFound, with a suggestion, if no field has this name.

    Parameters
    ----------
    fields
        Fields of the file by name.
    name
        Name to look up.
    path
        Path of the file, for the error message.
    """
    if name not in fields:
        suggestion = did_you_mean(name, fields)
        raise FieldNotFound(f"{path}: no field {name!r}. Fields: {', '.join(fields)}.{suggestion}")


def _read_index(file: OpenFile, custom_fields: Mapping[str, type[Field]]) -> FileIndex:
    """Read and validate the sections in file order; messages do not contain the path."""
    size = file.size
    header_bytes = file.read_bytes(0, min(size, HEADER_DTYPE.itemsize))
    header = parse_header(header_bytes)
    check_sections(header, size)
    descriptor_bytes = file.read_bytes(
        HEADER_DTYPE.itemsize, DESCRIPTOR_DTYPE.itemsize * header.num_fields
    )
    descriptors = parse_descriptors(descriptor_bytes)
    extension = read_extension(file.read_bytes, header)
    metadata = {} if extension is None else extension.metadata
    fields, dtype = parse_schema(descriptors, custom_fields, metadata)
    for name in custom_fields:
        check_field_name(fields, name, file.path)
    records_end = header.records_start + header.num_samples * dtype.itemsize
    region = data_region(header, extension, records_end)
    records = file.read_array(header.records_start, header.num_samples, dtype)
    table = file.read_table(header)
    index_checksum = zlib.crc32(descriptor_bytes, zlib.crc32(header_bytes))
    index_checksum = zlib.crc32(_memory_of(records), index_checksum)
    table_checksum = zlib.crc32(_memory_of(table))
    if extension is not None:
        num_stored = sum(field.pointer_name is not None for field in fields.values())
        num_expected = header.num_samples * num_stored
        check_checksums(extension, index_checksum, table_checksum, len(table), num_expected)
    extents = locate_values(fields, records, table, region)
    checksums = value_checksums(extension, extents, table)
    if extension is None:
        pages_end = find_pages_end(file.read_bytes, header, records_end, extents)
    else:
        pages_end = extension.start
    block_checksum = extension and extension.checksum
    identity = (header_bytes, size, index_checksum, table_checksum, block_checksum)
    return FileIndex(
        header=header,
        extension=extension,
        fields=fields,
        records=records,
        records_end=records_end,
        pages_end=pages_end,
        extents=extents,
        checksums=checksums,
        fingerprint=hashlib.blake2b(repr(identity).encode(), digest_size=8).hexdigest(),
    )


def _memory_of(array: NDArray[Any]) -> memoryview:
    """Return the bytes of a one-dimensional C-contiguous array."""
    return array.view(np.uint8).data if array.size else memoryview(b"")
