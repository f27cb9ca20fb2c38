"""Open a .beton file: read and check its index once, then hand out stored values by positioned reads."""

from __future__ import annotations

import hashlib
import os
import weakref
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

import numpy as np

from ffcv_ssl.beton.format.index import Extents, locate_values
from ffcv_ssl.beton.format.integrity import read_extension
from ffcv_ssl.beton.format.layout import (
    DESCRIPTOR_DTYPE,
    HEADER_DTYPE,
    TABLE_DTYPE,
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
from ffcv_ssl.beton.verify import Problem, find_problems
from ffcv_ssl.errors import (
    BetonFormatError,
    ChecksumError,
    ConfigError,
    FfcvSslError,
    FieldNotFound,
    SampleError,
)
from ffcv_ssl.fields.base import Field
from ffcv_ssl.system.files import absolute, open_for_reading, read_exactly
from ffcv_ssl.system.names import did_you_mean

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
        Absolute, as a string, with `~` expanded.
    num_samples, page_size, header
        As in the file.
    records_end, pages_end
        File offsets where the records and the last page end.
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

    def __init__(
        self,
        path: str | os.PathLike,
        custom_fields: Mapping[str, type[Field]] = _NO_CUSTOM_FIELDS,
        check: str = "read",
    ):
        self.path, self.check = absolute(path), check
        if check not in CHECKS:
            raise ConfigError(f"{self.path}: check is one of {', '.join(CHECKS)}, got {check!r}.")
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
        check_sections(header, size)
        descriptor_bytes = self._read_bytes(
            HEADER_DTYPE.itemsize, DESCRIPTOR_DTYPE.itemsize * header.num_fields
        )
        descriptors = parse_descriptors(descriptor_bytes)
        extension = read_extension(self._read_bytes, header)
        self.header, self.num_samples, self.page_size = header, header.num_samples, header.page_size
        self.metadata: dict = extension.metadata if extension is not None else {}
        self.fields, dtype = parse_schema(descriptors, self._custom_fields, self.metadata)
        for name in self._custom_fields:
            self._check_field(name)
        self.records_end = header.records_start + header.num_samples * dtype.itemsize
        region = data_region(header, extension, self.records_end)
        self.records = self._read_array(header.records_start, header.num_samples, dtype)
        table = self.read_table()
        index_checksum = zlib.crc32(
            _bytes_of(self.records), zlib.crc32(descriptor_bytes, zlib.crc32(header_bytes))
        )
        table_checksum = zlib.crc32(_bytes_of(table))
        if extension is not None:
            num_stored = sum(field.pointer_name is not None for field in self.fields.values())
            check_checksums(
                extension, index_checksum, table_checksum, len(table), self.num_samples * num_stored
            )
        self._extension = extension
        self._extents = locate_values(self.fields, self.records, table, region)
        self._checksums = value_checksums(extension, self._extents, table)
        self.pages_end = (
            extension.start
            if extension is not None
            else find_pages_end(self._read_bytes, header, self.records_end, self._extents)
        )
        seen = (
            header_bytes,
            size,
            index_checksum,
            table_checksum,
            extension and extension.checksum,
        )
        self.fingerprint: str = hashlib.blake2b(repr(seen).encode(), digest_size=8).hexdigest()

    @property
    def class_names(self) -> list[str] | None:
        """Names of the classes, where the file knows them."""
        return self.metadata.get("class_names")

    @property
    def stored_fields(self) -> list[str]:
        """Names of the fields whose values lie in pages, in file order."""
        return list(self._extents)

    @property
    def has_value_checksums(self) -> bool:
        """Whether the file carries a checksum for every stored value, so that damage shows on every read."""
        return self._extension is not None and self._extension.value_checksums is not None

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

    def read_table(self) -> np.ndarray:
        """Read the allocation table, (T,) of `layout.TABLE_DTYPE`, in the order of the file."""
        start = self.header.alloc_table_ptr
        size = os.fstat(self._descriptor).st_size
        return self._read_array(start, (size - start) // TABLE_DTYPE.itemsize, TABLE_DTYPE)

    def check_value(self, sample_id: int, name: str, payload: Any) -> None:
        """Compare the bytes of one value, as read, with its checksum; ChecksumError if they differ."""
        checksums = self._checksums.get(name) if self.check == "read" else None
        if checksums is None:
            return
        found, stored = zlib.crc32(payload), int(checksums[sample_id])
        if found != stored:
            raise ChecksumError(
                f"the {len(payload):,} stored bytes have the checksum {found:08x}, {stored:08x} was written: the file is damaged here."
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
            raise BetonFormatError(
                f"{self.path}: field {name!r} stores its values in the records, not in pages."
            )
        return self._extents[name]

    def read_into(self, pointer: int, size: int, buffer: Any) -> None:
        """Read `size` bytes at a file offset into the beginning of a writable C-contiguous buffer.

        Raises TruncatedFile if the file became shorter, OSError (with the path) if it cannot be read.
        """
        read_exactly(
            self.fileno(), int(pointer), memoryview(buffer).cast("B")[: int(size)], self.path
        )

    def read(self, sample_id: int, name: str) -> bytes:
        """The stored bytes of one value; empty for fields that stand in the record.

        Raises ChecksumError, naming file, sample and field, if they are not the bytes that were written.
        """
        self._check_field(name)
        self._check_sample(sample_id)
        try:
            return self._payload(sample_id, name)
        except ChecksumError as error:
            raise ChecksumError(
                f"{self.path}: sample {sample_id}, field {name!r}: {error}"
            ) from error

    def value(self, sample_id: int, name: str) -> Any:
        """One decoded value; SampleError, naming sample and field, if it cannot be read or decoded."""
        return self._decoded(sample_id, name, "decode")

    def blemish(self, sample_id: int, name: str) -> str | None:
        """What is odd about a value that is all there, or None; SampleError as for `value`."""
        return self._decoded(sample_id, name, "blemish")

    def _decoded(self, sample_id: int, name: str, method: str) -> Any:
        self._check_field(name)
        self._check_sample(sample_id)
        try:
            decode = getattr(self.fields[name], method)
            return decode(self.records[name][sample_id], self._payload(sample_id, name))
        except Exception as error:  # a custom field's decode is anyone's code
            described = (
                str(error)
                if isinstance(error, FfcvSslError)
                else f"{type(error).__name__}: {error}"
            )
            raise SampleError(
                f"{self.path}: sample {sample_id}, field {name!r}: {described}",
                int(sample_id),
                name,
            ) from error

    def verify(self, decode: bool = True) -> Iterator[Problem]:
        """Compare every page with its checksum and, if asked, decode every value; yield what is wrong.

        A file without checksums (`has_checksums`) is only decoded.
        """
        return find_problems(self, self._extension, self.records_end, decode)

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
            raise FieldNotFound(
                f"{self.path}: no field {name!r}. Fields: {', '.join(self.fields)}.{did_you_mean(name, self.fields)}"
            )

    def _check_sample(self, sample_id: int) -> None:
        if not 0 <= sample_id < self.num_samples:
            raise IndexError(
                f"{self.path}: no sample {sample_id}; it has {self.num_samples} samples, counted from 0."
            )

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
            raise type(error)(
                message if message.startswith(self.path) else f"{self.path}: {message}"
            ) from error


def _bytes_of(array: np.ndarray) -> memoryview:
    """The memory of a one-dimensional C-contiguous array."""
    return array.view(np.uint8).data if array.size else memoryview(b"")
