"""Reading of .beton files: the index is validated once, values are read by position."""

from __future__ import annotations

import os
import weakref
import zlib
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ffcv_ssl.beton.format.index import Extents
from ffcv_ssl.beton.opening import OpenFile, check_field_name, read_index
from ffcv_ssl.beton.verify import Problem, find_problems
from ffcv_ssl.errors import (
    BetonFormatError,
    ChecksumError,
    ConfigError,
    SampleError,
    describe_error,
)
from ffcv_ssl.fields.base import Field
from ffcv_ssl.system.files import absolute, open_for_reading, read_exactly

CHECKS = ("read", "none")
_NO_CUSTOM_FIELDS: Mapping[str, type[Field]] = MappingProxyType({})


class BetonReader:
    """An open .beton file.

    The constructor validates everything except the stored values, which `verify` checks. A reader
    may be used from several threads and after a fork. It keeps reading the same file if the path is
    replaced. Unpickling opens the path again.

    Methods take a `sample_id`, the index of a sample in the file (0 to `num_samples - 1`), and a
    `name`, the name of a field. They raise IndexError and FieldNotFound for any other.

    Parameters
    ----------
    path
        Path of the file; `~` is expanded.
    custom_fields
        Field classes of custom fields, by field name.
    check
        "read" compares every value that is read with its checksum, if the file has one. "none"
        skips the comparison.

    Attributes
    ----------
    path
        Absolute path as a string.
    num_samples, page_size
        Number of samples; page size in bytes.
    header
        Header of the file.
    records_end, pages_end
        File offsets behind the records and behind the last page.
    fields
        Field objects by name, in file order. The options of the writer (image mode, JPEG quality)
        are in `metadata["fields"]`.
    records
        (num_samples,) structured array, read-only, one column per field.
    metadata
        JSON of the extension block; {} for a file from FFCV.
    fingerprint
        16 hex digits that depend on header, records, allocation table and, in files that this
        package wrote, the stored values.

    Raises
    ------
    BetonFormatError
        If the file violates the format. Subclasses tell truncated files, other versions and
        damaged checksums apart.
    FieldNotFound
        If `custom_fields` contains a name that is not a field of the file.
    ConfigError
        If `check` or `path` is invalid.
    OSError
        If the file cannot be read.

    Examples
    --------
    >>> from ffcv_ssl.fields import BytesField, IntField
    >>> from ffcv_ssl.reader import Reader
    >>> from ffcv_ssl.writer import DatasetWriter
    >>> fields = {"text": BytesField(), "label": IntField()}
    >>> writer = DatasetWriter("texts.beton", fields, num_workers=0, progress=False)
    >>> report = writer.from_indexed_dataset([(b"cat", 0), (b"dog", 1)])
    >>> with Reader("texts.beton") as reader:
    ...     print(reader.num_samples, list(reader.fields))
    ...     print(reader.value(1, "text"), reader.records["label"].tolist())
    2 ['text', 'label']
    b'dog' [0, 1]
    """

    def __init__(
        self,
        path: str | bytes | os.PathLike[str],
        custom_fields: Mapping[str, type[Field]] = _NO_CUSTOM_FIELDS,
        check: str = "read",
    ) -> None:
        self.path, self.check = absolute(path), check
        if check not in CHECKS:
            raise ConfigError(f"{self.path}: check is one of {', '.join(CHECKS)}, got {check!r}.")
        self._custom_fields = dict(custom_fields)
        self._descriptor = open_for_reading(self.path)
        self._closer = weakref.finalize(self, os.close, self._descriptor)
        try:
            index = read_index(OpenFile(self._descriptor, self.path), self._custom_fields)
        except BaseException:
            self.close()
            raise
        self.header = index.header
        self.num_samples, self.page_size = index.header.num_samples, index.header.page_size
        self.metadata = {} if index.extension is None else index.extension.metadata
        self.fields, self.records = index.fields, index.records
        self.records_end, self.pages_end = index.records_end, index.pages_end
        self.fingerprint = index.fingerprint
        self._extension, self._extents = index.extension, index.extents
        self._checksums = index.checksums

    @property
    def class_names(self) -> list[str] | None:
        """Names of the labels 0, 1, ...; None if the file does not contain them."""
        names: list[str] | None = self.metadata.get("class_names")
        return names

    @property
    def stored_fields(self) -> list[str]:
        """Names of the fields whose values are stored in pages, in file order."""
        return list(self._extents)

    @property
    def has_value_checksums(self) -> bool:
        """Whether the file has a checksum for every stored value."""
        return self._extension is not None and self._extension.value_checksums is not None

    @property
    def has_checksums(self) -> bool:
        """Whether the file has checksums of pages and index; files from FFCV do not."""
        return self._extension is not None

    def value_checksums(self, name: str) -> NDArray[np.uint32] | None:
        """Return the (num_samples,) uint32 CRC-32 of the stored values of a field.

        The result is None if the file has no value checksums (`ffcv-ssl seal` adds them), or if the
        values are stored in the records, which another checksum covers.
        """
        self._check_field(name)
        return self._checksums.get(name)

    def read_table(self) -> NDArray[Any]:
        """Read the (T,) allocation table of `layout.TABLE_DTYPE`, in file order."""
        return OpenFile(self.fileno(), self.path).read_table(self.header)

    def check_value(self, sample_id: int, name: str, payload: Any) -> None:
        """Compare `payload`, the stored bytes of one value, with their checksum.

        Raise ChecksumError if it differs. Nothing is compared if `check` is "none" or the file has
        no value checksums.
        """
        checksums = self._checksums.get(name) if self.check == "read" else None
        if checksums is None:
            return
        actual, expected = zlib.crc32(payload), int(checksums[sample_id])
        if actual != expected:
            raise ChecksumError(
                f"the {len(payload):,} stored bytes are damaged: their checksum is {actual:08x}, "
                f"expected {expected:08x}."
            )

    def extents(self, name: str) -> Extents:
        """Return where the values of a field are stored.

        Returns
        -------
        pointers : numpy.ndarray
            (num_samples,) uint64 file offsets; meaningless where the size is 0.
        sizes : numpy.ndarray
            (num_samples,) uint64 sizes in bytes.

        Raises
        ------
        BetonFormatError
            If the values of the field are stored in the records (scalars).
        """
        self._check_field(name)
        if name not in self._extents:
            raise BetonFormatError(
                f"{self.path}: field {name!r} stores its values in the records, not in pages."
            )
        return self._extents[name]

    def read_into(self, pointer: int, size: int, buffer: Any) -> None:
        """Read `size` bytes at the file offset `pointer` into `buffer`, writable and C-contiguous.

        Raise TruncatedFile if the file was truncated after it was opened, OSError if it cannot be
        read, and ValueError if the reader is closed.
        """
        view = memoryview(buffer).cast("B")[: int(size)]
        read_exactly(self.fileno(), int(pointer), view, self.path)

    def read(self, sample_id: int, name: str) -> bytes:
        """Return the stored bytes of one value; empty if the values are stored in the records.

        Raise ChecksumError, naming file, sample and field, if they do not match their checksum.
        """
        self._check_arguments(sample_id, name)
        try:
            return self._payload(sample_id, name)
        except ChecksumError as error:
            message = f"{self.path}: sample {sample_id}, field {name!r}: {error}"
            raise ChecksumError(message) from error

    def value(self, sample_id: int, name: str) -> Any:
        """Return one decoded value.

        Raise SampleError, naming file, sample and field, if it cannot be read or decoded.
        """
        return self._call_field(sample_id, name, "decode")

    def blemish(self, sample_id: int, name: str) -> str | None:
        """Describe a harmless irregularity of a value, or return None; raise as `value`."""
        description: str | None = self._call_field(sample_id, name, "blemish")
        return description

    def verify(self, decode: bool = True) -> Iterator[Problem]:
        """Compare every page with its checksum and, if `decode` is true, decode every value.

        Files from FFCV have no checksums (see `has_checksums`).

        Yields
        ------
        Problem
            Damaged pages in file order, then damaged values in sample order.
        """
        return find_problems(self, self._extension, self.records_end, decode)

    def close(self) -> None:
        """Close the file; further calls have no effect."""
        self._closer()

    def fileno(self) -> int:
        """Return the file descriptor; raise ValueError if the reader is closed."""
        if not self._closer.alive:
            raise ValueError(f"{self.path}: the reader is closed.")
        return self._descriptor

    def __len__(self) -> int:
        return self.num_samples

    def __enter__(self) -> BetonReader:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[type[BetonReader], tuple[Any, ...]]:
        return type(self), (self.path, self._custom_fields, self.check)

    def __repr__(self) -> str:
        return f"BetonReader({self.path!r}: {self.num_samples} samples of {', '.join(self.fields)})"

    def _check_field(self, name: str) -> None:
        check_field_name(self.fields, name, self.path)

    def _check_arguments(self, sample_id: int, name: str) -> None:
        self._check_field(name)
        if not 0 <= sample_id < self.num_samples:
            raise IndexError(
                f"{self.path}: no sample {sample_id}; the file has {self.num_samples} samples."
            )

    def _call_field(self, sample_id: int, name: str, method: str) -> Any:
        """Call a method of a field with the record and the payload of one value."""
        self._check_arguments(sample_id, name)
        try:
            function = getattr(self.fields[name], method)
            return function(self.records[name][sample_id], self._payload(sample_id, name))
        except Exception as error:  # a custom field may raise anything
            message = f"{self.path}: sample {sample_id}, field {name!r}: {describe_error(error)}"
            raise SampleError(message, int(sample_id), name) from error

    def _payload(self, sample_id: int, name: str) -> bytes:
        """Read the stored bytes of one value and compare them with their checksum."""
        if name not in self._extents:
            return b""
        pointers, sizes = self._extents[name]
        payload = bytearray(int(sizes[sample_id]))
        if payload:
            self.read_into(int(pointers[sample_id]), len(payload), payload)
        self.check_value(sample_id, name, payload)
        return bytes(payload)
