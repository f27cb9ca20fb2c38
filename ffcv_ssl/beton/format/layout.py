"""The .beton layout, version 2: header, field descriptors, record type, allocation table. Bytes in, bytes out; no files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ffcv_ssl.errors import (
    BetonFormatError,
    FieldError,
    NotABetonFile,
    TruncatedFile,
    UnsupportedVersion,
)
from ffcv_ssl.fields.base import ARGUMENTS_SIZE, Field

VERSION = 2
MIN_PAGE_SIZE = 1 << 21
MAX_PAGE_SIZE = 1 << 30  # one pread on Linux returns at most 0x7ffff000 bytes
DEFAULT_PAGE_SIZE = 1 << 23
NAME_SIZE = 16
MAX_FIELDS = 0xFFFF

HEADER_DTYPE = np.dtype(
    [
        ("version", "<u2"),
        ("num_fields", "<u2"),
        ("page_size", "<u4"),
        ("num_samples", "<u8"),
        ("alloc_table_ptr", "<u8"),
    ]
)
DESCRIPTOR_DTYPE = np.dtype(
    [("type_id", "u1"), ("name", "u1", NAME_SIZE), ("arguments", "u1", ARGUMENTS_SIZE)]
)
TABLE_DTYPE = np.dtype([("sample_id", "<u8"), ("ptr", "<u8"), ("size", "<u8")])


@dataclass(frozen=True)
class Header:
    """The first 24 bytes of a file.

    Parameters
    ----------
    num_fields
        Number of field descriptors, 1 to 65535.
    page_size
        Bytes, a power of two from 2**21 to 2**30.
    num_samples
        Number of records.
    alloc_table_ptr
        File offset of the allocation table, which ends the file.
    """

    num_fields: int
    page_size: int
    num_samples: int
    alloc_table_ptr: int

    @property
    def records_start(self) -> int:
        """File offset of the first record."""
        return HEADER_DTYPE.itemsize + DESCRIPTOR_DTYPE.itemsize * self.num_fields

    def to_bytes(self) -> bytes:
        """The 24 bytes of the file."""
        row = (VERSION, self.num_fields, self.page_size, self.num_samples, self.alloc_table_ptr)
        return np.array([row], dtype=HEADER_DTYPE).tobytes()


@dataclass(frozen=True)
class Descriptor:
    """One field as the file describes it: type id, name, and the 1024 bytes of its arguments."""

    type_id: int
    name: str
    arguments: bytes


def is_page_size(size: int) -> bool:
    """Whether a page may have this size."""
    return MIN_PAGE_SIZE <= size <= MAX_PAGE_SIZE and size & (size - 1) == 0


def align_up(offset: int, page_size: int) -> int:
    """The next page border at or after an offset."""
    return -(-offset // page_size) * page_size


def parse_header(data: bytes) -> Header:
    """Read the header; `data` is the beginning of the file, at least 24 bytes of it if the file has them.

    Raises
    ------
    NotABetonFile, UnsupportedVersion, TruncatedFile, BetonFormatError
        Without the file's name: the reader adds it.
    """
    if not data:
        raise NotABetonFile("the file is empty.")
    if len(data) < HEADER_DTYPE.itemsize:
        raise TruncatedFile(
            f"{len(data)} bytes are too few for a .beton header of {HEADER_DTYPE.itemsize}."
        )
    row = np.frombuffer(data[: HEADER_DTYPE.itemsize], dtype=HEADER_DTYPE)[0]
    version, num_fields, page_size = (
        int(row["version"]),
        int(row["num_fields"]),
        int(row["page_size"]),
    )
    if not any(data[: HEADER_DTYPE.itemsize]):
        raise NotABetonFile(
            "the header is all zeros: a conversion that never finished. Write the file again."
        )
    if version != VERSION:
        if num_fields == 0 or not is_page_size(page_size):
            raise NotABetonFile("this is not a .beton file.")
        raise UnsupportedVersion(f"format version {version}; this package reads version {VERSION}.")
    if num_fields == 0:
        raise BetonFormatError("the header names no fields.")
    if not is_page_size(page_size):
        raise BetonFormatError(
            f"page size {page_size} is not a power of two from {MIN_PAGE_SIZE} to {MAX_PAGE_SIZE}."
        )
    return Header(num_fields, page_size, int(row["num_samples"]), int(row["alloc_table_ptr"]))


def parse_descriptors(data: bytes) -> list[Descriptor]:
    """Read all field descriptors; BetonFormatError for names that are empty, not printable ASCII, or not unique."""
    descriptors: dict[str, Descriptor] = {}
    for row in np.frombuffer(data, dtype=DESCRIPTOR_DTYPE):
        name = row["name"].tobytes().rstrip(b"\0").decode("latin-1")
        problem = name_problem(name)
        if problem is not None:
            raise BetonFormatError(f"field {len(descriptors)} has the name {name!r}: {problem}.")
        if name in descriptors:
            raise BetonFormatError(f"two fields are called {name!r}.")
        descriptors[name] = Descriptor(int(row["type_id"]), name, row["arguments"].tobytes())
    return list(descriptors.values())


def name_problem(name: str) -> str | None:
    """Why a name cannot be a field's, or None."""
    if not 1 <= len(name) <= NAME_SIZE:
        return f"a name has 1 to {NAME_SIZE} characters, not {len(name)}"
    if not (name.isascii() and name.isprintable()):
        return "a name is printable ASCII"
    return None


def descriptors_to_bytes(fields: Mapping[str, Field]) -> bytes:
    """The descriptors of fields in file order.

    Raises
    ------
    FieldError
        Names or arguments that the format cannot hold.
    """
    rows = np.zeros(len(fields), dtype=DESCRIPTOR_DTYPE)
    for row, (name, field) in zip(rows, fields.items(), strict=True):
        problem = name_problem(name)
        if problem is not None:
            raise FieldError(f"field name {name!r}: {problem}.")
        arguments = field.arguments()
        if len(arguments) > ARGUMENTS_SIZE:
            raise FieldError(
                f"field {name!r}: its arguments take {len(arguments)} bytes; the format holds {ARGUMENTS_SIZE}."
            )
        row["type_id"] = field.type_id
        row["name"][: len(name)] = np.frombuffer(name.encode("ascii"), np.uint8)
        row["arguments"][: len(arguments)] = np.frombuffer(arguments, np.uint8)
    return rows.tobytes()


def record_dtype(fields: Mapping[str, Field]) -> np.dtype:
    """Type of one sample's record: one column per field, named and aligned as NumPy aligns C structs (FFCV does the same)."""
    return np.dtype([(name, field.record_dtype) for name, field in fields.items()], align=True)
