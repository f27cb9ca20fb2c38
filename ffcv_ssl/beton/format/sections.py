"""Consistency of the sections of a file, checked when it is opened."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ffcv_ssl.beton.format.index import DataRegion, Extents, values_in_records
from ffcv_ssl.beton.format.integrity import Extension
from ffcv_ssl.beton.format.layout import TABLE_DTYPE, Header, align_up
from ffcv_ssl.errors import BetonFormatError, ChecksumError, TruncatedFile


def check_sections(header: Header, size: int) -> None:
    """Check that every section lies inside the file, before any section is read.

    Parameters
    ----------
    header
        Header of the file.
    size
        Size of the file in bytes.

    Raises
    ------
    TruncatedFile, BetonFormatError
        If a section extends beyond the end of the file or into another section.
    """
    table_start = header.alloc_table_ptr
    if header.records_start > size:
        raise TruncatedFile(
            f"the file has {size} bytes; its {header.num_fields} field descriptors extend to "
            f"{header.records_start}."
        )
    if table_start > size:
        raise TruncatedFile(
            f"the file has {size} bytes, but its allocation table starts at offset {table_start}."
        )
    if table_start < header.records_start:
        raise BetonFormatError(
            f"the allocation table starts at offset {table_start}, inside the header. "
            "Was writing interrupted?"
        )
    if (size - table_start) % TABLE_DTYPE.itemsize:
        raise TruncatedFile(
            f"the {size - table_start} bytes from offset {table_start} are not a whole number of "
            "rows of the allocation table."
        )


def check_checksums(
    extension: Extension,
    index_checksum: int,
    table_checksum: int,
    num_values: int,
    num_expected: int,
) -> None:
    """Compare the checksums of index and allocation table with those of the extension block.

    Parameters
    ----------
    extension
        Extension block of the file.
    index_checksum, table_checksum
        CRC-32 of the sections as read.
    num_values
        Number of rows in the allocation table.
    num_expected
        Number of rows that the records require.

    Raises
    ------
    ChecksumError
        If a checksum differs.
    TruncatedFile
        If the checksum of the table differs because rows are missing.
    """
    if index_checksum != extension.index_checksum:
        raise ChecksumError("header, descriptors or records do not match their checksum.")
    if table_checksum != extension.table_checksum:
        if num_values < num_expected:
            raise TruncatedFile(f"the allocation table has {num_values} of {num_expected} values.")
        raise ChecksumError("the allocation table does not match its checksum.")


def data_region(header: Header, extension: Extension | None, records_end: int) -> DataRegion:
    """Return the file range that may contain values.

    The region starts behind the records. If pages have checksums, it covers only these pages.

    Parameters
    ----------
    header
        Header of the file.
    extension
        Extension block; None if the file has none.
    records_end
        File offset where the records end.

    Raises
    ------
    TruncatedFile, BetonFormatError
        If the records extend into the allocation table, or pages with checksums into the records.
    """
    end = header.alloc_table_ptr if extension is None else extension.start
    if records_end > end:
        raise TruncatedFile(f"{header.num_samples} records do not fit before the allocation table.")
    if extension is None:
        return DataRegion(records_end, end, header.page_size)
    num_pages = len(extension.page_checksums)
    first = extension.start - num_pages * header.page_size
    if num_pages and first + header.page_size <= records_end:
        raise BetonFormatError(
            f"the extension block has checksums for {num_pages} pages, some of which lie inside "
            "the records."
        )
    return DataRegion(max(records_end, first), end, header.page_size)


def value_checksums(
    extension: Extension | None, extents: Mapping[str, Extents], table: NDArray[Any]
) -> dict[str, NDArray[np.uint32]]:
    """Return the checksums of the stored values by field.

    Parameters
    ----------
    extension
        Extension block; None if the file has none.
    extents
        Pointers and sizes by field, as `index.locate_values` returns them.
    table
        (T,) allocation table of `layout.TABLE_DTYPE`.

    Returns
    -------
    dict
        For each field with payload: (N,) uint32 CRC-32. Empty if the file has no value checksums.

    Raises
    ------
    BetonFormatError
        If there is not exactly one checksum per row of the table.
    """
    checksums = None if extension is None else extension.value_checksums
    if checksums is None:
        return {}
    if len(checksums) != len(table):
        raise BetonFormatError(
            f"the extension block has checksums for {len(checksums)} values; "
            f"the allocation table has {len(table)}."
        )
    return values_in_records(checksums, extents, table)


def find_pages_end(
    read: Callable[[int, int], bytes],
    header: Header,
    records_end: int,
    extents: Mapping[str, Extents],
) -> int:
    """Return the file offset behind the last page of a file without extension block.

    Parameters
    ----------
    read
        Function that returns the bytes of the file at (offset, size).
    header
        Header of the file.
    records_end
        File offset where the records end.
    extents
        Pointers and sizes by field, as `index.locate_values` returns them.

    Raises
    ------
    BetonFormatError
        If there are nonzero bytes between the last page and the allocation table. FFCV writes none,
        so they are an extension block with a damaged magic number.
    """
    ends = [(pointers + sizes)[sizes > 0] for pointers, sizes in extents.values()]
    last = max((int(each.max()) for each in ends if len(each)), default=0)
    start = min(max(records_end, align_up(last, header.page_size)), header.alloc_table_ptr)
    for offset in range(start, header.alloc_table_ptr, header.page_size):
        size = min(header.page_size, header.alloc_table_ptr - offset)
        if read(offset, size).strip(b"\0"):
            raise BetonFormatError(
                f"the bytes from offset {start} to {header.alloc_table_ptr}, between the last page "
                "and the allocation table, are not a valid extension block. The file is damaged; "
                "restore it or write it again."
            )
    return start
