"""Layout of .beton version 2: header, field descriptors, record type and allocation table.

The functions convert between objects and bytes; they do not access files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

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
        Page size in bytes, a power of two from 2**21 to 2**30.
    num_samples
        Number of records.
    alloc_table_ptr
        File offset of the allocation table, which extends to the end of the file.
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
        """Serialize the header to 24 bytes."""
        row = (VERSION, self.num_fields, self.page_size, self.num_samples, self.alloc_table_ptr)
        return np.array([row], dtype=HEADER_DTYPE).tobytes()


@dataclass(frozen=True)
class Descriptor:
    """Description of one field in the file.

    Parameters
    ----------
    type_id
        Field type, 0 to 255; 255 is a custom field.
    name
        Name of the field, 1 to 16 printable ASCII characters.
    arguments
        1024 bytes from which the field is built.
    """

    type_id: int
    name: str
    arguments: bytes


def is_page_size(size: int) -> bool:
    """Return whether a page size is valid: a power of two from 2**21 to 2**30.

    Parameters
    ----------
    size
        Page size in bytes.
    """
    return MIN_PAGE_SIZE <= size <= MAX_PAGE_SIZE and size & (size - 1) == 0


def align_up(offset: int, page_size: int) -> int:
    """Return the smallest multiple of `page_size` that is not less than `offset`.

    Parameters
    ----------
    offset
        File offset, >= 0.
    page_size
        Alignment in bytes, >= 1.
    """
    return -(-offset // page_size) * page_size


def parse_header(data: bytes) -> Header:
    """Parse and validate the header.

    Parameters
    ----------
    data
        The first bytes of the file, at least 24 unless the file is shorter.

    Raises
    ------
    NotABetonFile
        If the bytes are not those of a .beton file.
    UnsupportedVersion
        If the format version is not 2.
    TruncatedFile
        If there are fewer than 24 bytes.
    BetonFormatError
        If a number is out of range. No message contains the path; the reader adds it.
    """
    if not data:
        raise NotABetonFile("the file is empty.")
    if len(data) < HEADER_DTYPE.itemsize:
        raise TruncatedFile(
            f"the file has {len(data)} bytes; a .beton header has {HEADER_DTYPE.itemsize}."
        )
    row = np.frombuffer(data[: HEADER_DTYPE.itemsize], dtype=HEADER_DTYPE)[0]
    version, num_fields = int(row["version"]), int(row["num_fields"])
    page_size = int(row["page_size"])
    if not any(data[: HEADER_DTYPE.itemsize]):
        raise NotABetonFile(
            "the header contains only zeros: writing was interrupted. Write the file again."
        )
    if version != VERSION:
        if num_fields == 0 or not is_page_size(page_size):
            raise NotABetonFile("this is not a .beton file.")
        raise UnsupportedVersion(f"format version {version}; this package reads version {VERSION}.")
    if num_fields == 0:
        raise BetonFormatError("the header declares no fields.")
    if not is_page_size(page_size):
        raise BetonFormatError(
            f"page size {page_size} is not a power of two from {MIN_PAGE_SIZE} to {MAX_PAGE_SIZE}."
        )
    return Header(num_fields, page_size, int(row["num_samples"]), int(row["alloc_table_ptr"]))


def parse_descriptors(data: bytes) -> list[Descriptor]:
    """Parse and validate all field descriptors.

    Parameters
    ----------
    data
        The descriptors, 1041 bytes each.

    Raises
    ------
    BetonFormatError
        If a name is empty, not printable ASCII, or not unique.
    """
    descriptors: dict[str, Descriptor] = {}
    for row in np.frombuffer(data, dtype=DESCRIPTOR_DTYPE):
        name = row["name"].tobytes().rstrip(b"\0").decode("latin-1")
        problem = name_problem(name)
        if problem is not None:
            raise BetonFormatError(f"field {len(descriptors)} has the name {name!r}: {problem}.")
        if name in descriptors:
            raise BetonFormatError(f"two fields have the name {name!r}.")
        descriptors[name] = Descriptor(int(row["type_id"]), name, row["arguments"].tobytes())
    return list(descriptors.values())


def name_problem(name: str) -> str | None:
    """Return why a string is not a valid field name, or None if it is valid.

    Parameters
    ----------
    name
        Any string.
    """
    if not 1 <= len(name) <= NAME_SIZE:
        return f"a name must have 1 to {NAME_SIZE} characters, not {len(name)}"
    if not (name.isascii() and name.isprintable()):
        return "a name must be printable ASCII"
    return None


def descriptors_to_bytes(fields: Mapping[str, Field]) -> bytes:
    """Serialize the descriptors of fields.

    Parameters
    ----------
    fields
        Fields by name, in file order.

    Raises
    ------
    FieldError
        If the format cannot hold a name or the arguments of a field.
    """
    rows = np.zeros(len(fields), dtype=DESCRIPTOR_DTYPE)
    for row, (name, field) in zip(rows, fields.items(), strict=True):
        problem = name_problem(name)
        if problem is not None:
            raise FieldError(f"field name {name!r}: {problem}.")
        arguments = field.arguments()
        if len(arguments) > ARGUMENTS_SIZE:
            raise FieldError(
                f"field {name!r}: its arguments take {len(arguments)} bytes; "
                f"the format holds at most {ARGUMENTS_SIZE}."
            )
        row["type_id"] = field.type_id
        row["name"][: len(name)] = np.frombuffer(name.encode("ascii"), np.uint8)
        row["arguments"][: len(arguments)] = np.frombuffer(arguments, np.uint8)
    return rows.tobytes()


def record_dtype(fields: Mapping[str, Field]) -> np.dtype[Any]:
    """Return the structured dtype of one sample's record, with one column per field.

    The columns are aligned as NumPy aligns C structs, which FFCV does too.

    Parameters
    ----------
    fields
        Fields by name, in file order.
    """
    return np.dtype([(name, field.record_dtype) for name, field in fields.items()], align=True)
