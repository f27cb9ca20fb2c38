"""Where the sections of a file may lie, checked against each other when it is opened."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from ffcv_ssl.beton.format.index import DataRegion, Extents, values_in_records
from ffcv_ssl.beton.format.integrity import Extension
from ffcv_ssl.beton.format.layout import TABLE_DTYPE, Header, align_up
from ffcv_ssl.errors import BetonFormatError, ChecksumError, TruncatedFile


def check_sections(header: Header, size: int) -> None:
    """Every section must lie in the file, before anything is read from it."""
    if header.records_start > size:
        raise TruncatedFile(
            f"{size} bytes; {header.num_fields} field descriptors alone need {header.records_start}."
        )
    if header.alloc_table_ptr > size:
        raise TruncatedFile(
            f"{size} bytes, but its allocation table begins at {header.alloc_table_ptr}."
        )
    if header.alloc_table_ptr < header.records_start:
        raise BetonFormatError(
            f"its allocation table begins at {header.alloc_table_ptr}, inside the header. Was its writing cut short?"
        )
    if (size - header.alloc_table_ptr) % TABLE_DTYPE.itemsize:
        raise TruncatedFile(
            f"{size - header.alloc_table_ptr} bytes after offset {header.alloc_table_ptr} are not whole rows of the allocation table."
        )


def check_checksums(
    extension: Extension, index: int, table: int, num_values: int, wanted: int
) -> None:
    """Compare the CRC-32 of index and table with those of the block; a table that lacks values says so."""
    if index != extension.index_checksum:
        raise ChecksumError("header, descriptors or records do not match their checksum.")
    if table != extension.table_checksum:
        if num_values < wanted:
            raise TruncatedFile(f"the allocation table has {num_values} of {wanted} values.")
        raise ChecksumError("the allocation table does not match its checksum.")


def data_region(header: Header, extension: Extension | None, records_end: int) -> DataRegion:
    """Where values may lie: behind the records and, where pages have checksums, in those pages."""
    end = header.alloc_table_ptr if extension is None else extension.start
    if records_end > end:
        raise TruncatedFile(f"{header.num_samples} records do not fit before the allocation table.")
    if extension is None:
        return DataRegion(records_end, end, header.page_size)
    num_pages = len(extension.page_checksums)
    first = extension.start - num_pages * header.page_size
    if num_pages and first + header.page_size <= records_end:
        raise BetonFormatError(
            f"the extension block has checksums for {num_pages} pages; some of these lie inside the records."
        )
    return DataRegion(max(records_end, first), end, header.page_size)


def value_checksums(
    extension: Extension | None, extents: Mapping[str, Extents], table: np.ndarray
) -> dict[str, np.ndarray]:
    """CRC-32 of the stored values by field, (N,) uint32 each; empty where the file has none."""
    checksums = None if extension is None else extension.value_checksums
    if checksums is None:
        return {}
    if len(checksums) != len(table):
        raise BetonFormatError(
            f"the extension block has checksums for {len(checksums)} values; the allocation table has {len(table)}."
        )
    return values_in_records(checksums, extents, table)


def find_pages_end(
    read: Callable[[int, int], bytes],
    header: Header,
    records_end: int,
    extents: Mapping[str, Extents],
) -> int:
    """File offset where the pages of a file without extension block end: behind the page of its last value.

    Raises BetonFormatError for bytes between there and the table, where FFCV leaves nothing: they are a block
    whose mark is damaged.
    """
    ends = [(pointers + sizes)[sizes > 0] for pointers, sizes in extents.values()]
    last = max((int(each.max()) for each in ends if len(each)), default=0)
    start = min(max(records_end, align_up(last, header.page_size)), header.alloc_table_ptr)
    for offset in range(start, header.alloc_table_ptr, header.page_size):
        if read(offset, min(header.page_size, header.alloc_table_ptr - offset)).strip(b"\0"):
            raise BetonFormatError(
                f"the bytes from offset {start} to {header.alloc_table_ptr}, between the last page and the allocation "
                "table, are no extension block. It must be damaged; restore the file or write it again."
            )
    return start
