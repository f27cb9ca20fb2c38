"""Open a .beton file: read and check its index once, then hand out stored values by positioned reads."""

from __future__ import annotations

import difflib
import hashlib
import os
import weakref
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

import numpy as np

from ffcv_ssl.beton.files import open_for_reading, read_exactly
from ffcv_ssl.beton.index import DataRegion, Extents, locate_values, values_in_records
from ffcv_ssl.beton.integrity import Extension, read_extension
from ffcv_ssl.beton.layout import (
    DESCRIPTOR_DTYPE,
    HEADER_DTYPE,
    TABLE_DTYPE,
    Header,
    align_up,
    parse_descriptors,
    parse_header,
)
from ffcv_ssl.beton.schema import parse_schema
from ffcv_ssl.beton.verify import Problem, find_problems
from ffcv_ssl.errors import BetonFormatError, ChecksumError, ConfigError, FfcvSslError, FieldNotFound, SampleError, TruncatedFile
from ffcv_ssl.fields.base import Field

CHECKS = ("read", "none")
_NO_CUSTOM_FIELDS: Mapping[str, type[Field]] = MappingProxyType({})


class BetonReader:
    """One open .beton file, checked from end to end when it is opened (except the values themselves: see `verify`).

    Safe to use from several threads, after a fork, and while the path is replaced by another file. Pickling opens the path again.

    Parameters
    ----------
    path
        Of the file.
    custom_fields
        Field classes of custom fields, by field name.
    check
        "read": compare every value that is read with its checksum, where the file holds one. "none":
        do not.

    Attributes
    ----------
    path
        As given, as a string.
    num_samples, page_size
        As in the header.
    fields
        Field objects by name, in file order. Write options (mode, quality …) stand in `metadata["fields"]`.
    records
        (num_samples,) structured array, read-only, one column per field.
    metadata
        JSON of the extension block; {} for a file from FFCV.
    fingerprint
        16 hex digits that change with header, records, allocation table and (in our files) the stored values.

    Raises
    ------
    BetonFormatError
        Or one of its subclasses, naming the file and what is wrong with it.
    FieldNotFound
        If `custom_fields` names a field that the file does not have.
    """

    def __init__(self, path: str | os.PathLike, custom_fields: Mapping[str, type[Field]] = _NO_CUSTOM_FIELDS, check: str = "read"):
        if check not in CHECKS:
            raise ConfigError(f"{os.fspath(path)!s}: check is one of {', '.join(CHECKS)}, got {check!r}.")
        self.path, self.check = os.fspath(path), check
        self._custom_fields = dict(custom_fields)
        self._descriptor = open_for_reading(self.path)
        self._closer = weakref.finalize(self, os.close, self._descriptor)
        try:
            with self._naming_the_file():
                self._open()
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        """Read and check everything but the values."""
        size = os.fstat(self._descriptor).st_size
        header_bytes = self._read_bytes(0, min(size, HEADER_DTYPE.itemsize))
        header = parse_header(header_bytes)
        _check_sections(header, size)
        descriptor_bytes = self._read_bytes(HEADER_DTYPE.itemsize, DESCRIPTOR_DTYPE.itemsize * header.num_fields)
        descriptors = parse_descriptors(descriptor_bytes)
        extension = read_extension(self._read_bytes, header)
        self.num_samples, self.page_size = header.num_samples, header.page_size
        self.metadata: dict = extension.metadata if extension is not None else {}
        self.fields, dtype = parse_schema(descriptors, self._custom_fields, self.metadata)
        for name in self._custom_fields:
            self._check_field(name)
        self._records_end = header.records_start + header.num_samples * dtype.itemsize
        if self._records_end > (header.alloc_table_ptr if extension is None else extension.start):
            raise TruncatedFile(f"{header.num_samples} records of {dtype.itemsize} bytes do not fit before the allocation table.")
        self.records = self._read_array(header.records_start, header.num_samples, dtype)
        table = self._read_array(header.alloc_table_ptr, (size - header.alloc_table_ptr) // TABLE_DTYPE.itemsize, TABLE_DTYPE)
        index_checksum = zlib.crc32(_bytes_of(self.records), zlib.crc32(descriptor_bytes, zlib.crc32(header_bytes)))
        table_checksum = zlib.crc32(_bytes_of(table))
        if extension is not None:
            self._check_checksums(extension, index_checksum, table_checksum, len(table))
        self._extension = extension
        region = self._data_region(header)
        self._extents = locate_values(self.fields, self.records, table, region)
        self._checksums = self._value_checksums(table)
        if extension is None:
            self._check_gap(table, header.alloc_table_ptr)
        seen = (header_bytes, size, index_checksum, table_checksum, extension and extension.checksum)
        self.fingerprint: str = hashlib.blake2b(repr(seen).encode(), digest_size=8).hexdigest()

    def _data_region(self, header: Header) -> DataRegion:
        """Where values may lie: behind the records and, where there are page checksums, in those pages."""
        extension = self._extension
        if extension is None:
            return DataRegion(self._records_end, header.alloc_table_ptr, self.page_size)
        num_pages = len(extension.page_checksums)
        first = extension.start - num_pages * self.page_size
        if num_pages and first + self.page_size <= self._records_end:
            raise BetonFormatError(
                f"the extension block has checksums for {num_pages} pages; some of these lie inside the records."
            )
        return DataRegion(max(self._records_end, first), extension.start, self.page_size)

    def _value_checksums(self, table: np.ndarray) -> dict[str, np.ndarray]:
        """CRC-32 of the stored values by field, (N,) uint32 each; empty where the file has none."""
        checksums = None if self._extension is None else self._extension.value_checksums
        if checksums is None:
            return {}
        if len(checksums) != len(table):
            raise BetonFormatError(
                f"the extension block has checksums for {len(checksums)} values; the allocation table has {len(table)}."
            )
        return values_in_records(checksums, self._extents, table)

    def _check_gap(self, table: np.ndarray, table_start: int) -> None:
        """Refuse bytes between the last page and the table that are no extension block: a damaged one.

        FFCV leaves nothing there.
        """
        ends = table["ptr"] + table["size"]
        last = int(ends.max()) if len(table) else 0
        start = max(self._records_end, align_up(last, self.page_size) if last else 0)
        for offset in range(start, table_start, self.page_size):
            if any(self._read_bytes(offset, min(self.page_size, table_start - offset))):
                raise BetonFormatError(
                    f"the bytes from offset {start} to {table_start}, between the last page and the allocation "
                    "table, are no extension block. It must be damaged; restore the file or write it again."
                )

    def _check_checksums(self, extension: Extension, index_checksum: int, table_checksum: int, num_values: int) -> None:
        if index_checksum != extension.index_checksum:
            raise ChecksumError("header, descriptors or records do not match their checksum.")
        if table_checksum != extension.table_checksum:
            wanted = self.num_samples * sum(field.pointer_name is not None for field in self.fields.values())
            if num_values < wanted:
                raise TruncatedFile(f"the allocation table has {num_values} of {wanted} values.")
            raise ChecksumError("the allocation table does not match its checksum.")

    @property
    def class_names(self) -> list[str] | None:
        """Names of the classes, where the file knows them."""
        return self.metadata.get("class_names")

    @property
    def has_checksums(self) -> bool:
        """Whether the file carries checksums; files written by FFCV do not."""
        return self._extension is not None

    def value_checksums(self, name: str) -> np.ndarray | None:
        """CRC-32 of the stored values of a field, (num_samples,) uint32.

        None where the file has none: it is from FFCV, or from a time before there were any (`ffcv-ssl
        seal` adds them), or the values stand in the records, which the checksum of the index covers.
        """
        self._check_field(name)
        return self._checksums.get(name)

    def check_value(self, sample_id: int, name: str, payload: Any) -> None:
        """Compare the bytes of one value, as read, with its checksum; ChecksumError if they differ."""
        checksums = self._checksums.get(name) if self.check == "read" else None
        if checksums is None:
            return
        found, stored = zlib.crc32(payload), int(checksums[sample_id])
        if found != stored:
            raise ChecksumError(
                f"the {len(payload):,} stored bytes have the checksum {found:08x}, {stored:08x} was written: "
                "the file is damaged here."
            )

    def extents(self, name: str) -> Extents:
        """Pointers and sizes in bytes of the stored values of a field, each (num_samples,) uint64.

        A size of 0 goes with a pointer that means nothing.

        Raises
        ------
        FieldNotFound
            If the file has no such field.
        BetonFormatError
            If the field stores its values in the records (scalars).
        """
        self._check_field(name)
        if name not in self._extents:
            raise BetonFormatError(f"{self.path}: field {name!r} stores its values in the records, not in pages.")
        return self._extents[name]

    def read_into(self, pointer: int, size: int, buffer: Any) -> None:
        """Read `size` bytes at a file offset into the beginning of a writable C-contiguous buffer.

        Raises TruncatedFile if the file became shorter, OSError (with the path) if it cannot be read.
        """
        read_exactly(self.fileno(), int(pointer), memoryview(buffer).cast("B")[: int(size)], self.path)

    def read(self, sample_id: int, name: str) -> bytes:
        """The stored bytes of one value; empty for fields that stand in the record.

        Raises ChecksumError, naming file, sample and field, if they are not the bytes that were written.
        """
        self._check_field(name)
        self._check_sample(sample_id)
        try:
            return self._payload(sample_id, name)
        except ChecksumError as error:
            raise ChecksumError(f"{self.path}: sample {sample_id}, field {name!r}: {error}") from error

    def value(self, sample_id: int, name: str) -> Any:
        """One decoded value; SampleError, naming sample and field, if it cannot be read or decoded."""
        return self._decoded(sample_id, name, self._find(name).decode)

    def blemish(self, sample_id: int, name: str) -> str | None:
        """What is odd about a value that is all there, or None; SampleError as for `value`."""
        return self._decoded(sample_id, name, self._find(name).blemish)

    def _find(self, name: str) -> Field:
        self._check_field(name)
        return self.fields[name]

    def _decoded(self, sample_id: int, name: str, decode: Callable[[Any, bytes], Any]) -> Any:
        self._check_sample(sample_id)
        try:
            return decode(self.records[name][sample_id], self._payload(sample_id, name))
        except Exception as error:  # a custom field's decode is anyone's code
            described = str(error) if isinstance(error, FfcvSslError) else f"{type(error).__name__}: {error}"
            raise SampleError(f"{self.path}: sample {sample_id}, field {name!r}: {described}", int(sample_id), name) from error

    def verify(self, decode: bool = True) -> Iterator[Problem]:
        """Compare every page with its checksum and, if asked, decode every value; yield what is wrong.

        A file without checksums (`has_checksums`) is only decoded.
        """
        return find_problems(self, self._extension, self._records_end, decode)

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        self._closer()

    def fileno(self) -> int:
        """The file descriptor; ValueError once the reader is closed."""
        if not self._closer.alive:
            raise ValueError(f"{self.path}: the reader is closed.")
        return self._descriptor

    def __len__(self) -> int:
        return self.num_samples

    def __enter__(self) -> BetonReader:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __reduce__(self) -> tuple:
        return type(self), (self.path, self._custom_fields, self.check)

    def __repr__(self) -> str:
        return f"BetonReader({self.path!r}: {self.num_samples} samples of {', '.join(self.fields)})"

    def _check_field(self, name: str) -> None:
        if name not in self.fields:
            close = difflib.get_close_matches(name, self.fields, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise FieldNotFound(f"{self.path}: no field {name!r}. Fields: {', '.join(self.fields)}.{hint}")

    def _check_sample(self, sample_id: int) -> None:
        if not 0 <= sample_id < self.num_samples:
            raise IndexError(f"{self.path}: no sample {sample_id}; it has {self.num_samples} samples, counted from 0.")

    def _payload(self, sample_id: int, name: str) -> bytes:
        """The stored bytes of one value, compared with their checksum."""
        if name not in self._extents:
            return b""
        pointers, sizes = self._extents[name]
        size = int(sizes[sample_id])
        payload = self._read_bytes(int(pointers[sample_id]), size) if size else b""
        self.check_value(sample_id, name, payload)
        return payload

    def _read_bytes(self, offset: int, size: int) -> bytes:
        buffer = bytearray(size)
        self.read_into(offset, size, buffer)
        return bytes(buffer)

    def _read_array(self, offset: int, count: int, dtype: np.dtype) -> np.ndarray:
        array = np.empty(count, dtype=dtype)
        if array.nbytes:
            self.read_into(offset, array.nbytes, _bytes_of(array))
        array.flags.writeable = False
        return array

    @contextmanager
    def _naming_the_file(self) -> Iterator[None]:
        """Put the path in front of the message of every format error."""
        try:
            yield
        except BetonFormatError as error:
            message = str(error)
            raise type(error)(message if message.startswith(self.path) else f"{self.path}: {message}") from error


def _check_sections(header: Header, size: int) -> None:
    """Every section must lie in the file, before anything is read from it."""
    if header.records_start > size:
        raise TruncatedFile(f"{size} bytes; {header.num_fields} field descriptors alone need {header.records_start}.")
    if header.alloc_table_ptr > size:
        raise TruncatedFile(f"{size} bytes, but its allocation table begins at {header.alloc_table_ptr}.")
    if header.alloc_table_ptr < header.records_start:
        raise BetonFormatError(f"its allocation table begins at {header.alloc_table_ptr}, inside the header. Was its writing cut short?")
    if (size - header.alloc_table_ptr) % TABLE_DTYPE.itemsize:
        raise TruncatedFile(
            f"{size - header.alloc_table_ptr} bytes after offset {header.alloc_table_ptr} are not whole rows of the allocation table."
        )


def _bytes_of(array: np.ndarray) -> memoryview:
    """The memory of a one-dimensional C-contiguous array."""
    return array.view(np.uint8).data if array.size else memoryview(b"")
