"""Location of stored values: validated pointers and sizes from records and allocation table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ffcv_ssl.errors import BetonFormatError, FieldError, TruncatedFile
from ffcv_ssl.fields.base import SIZE_UNKNOWN, Field

_BLOCK = 1 << 17  # samples validated at a time, so that intermediate arrays fit the CPU cache

Extents = tuple[NDArray[np.uint64], NDArray[np.uint64]]  # (N,) pointers and (N,) sizes in bytes


@dataclass(frozen=True)
class DataRegion:
    """Range of file offsets that may contain values.

    Parameters
    ----------
    start
        First file offset of the region.
    end
        File offset behind the region.
    page_size
        Page size in bytes, a power of two. No value crosses a multiple of it.
    """

    start: int
    end: int
    page_size: int


def locate_values(
    fields: Mapping[str, Field], records: NDArray[Any], table: NDArray[Any], region: DataRegion
) -> dict[str, Extents]:
    """Find and validate the extent of every stored value.

    Parameters
    ----------
    fields
        Fields by name, in file order.
    records
        (N,) structured array as read from the file, one column per field.
    table
        (T,) allocation table of `layout.TABLE_DTYPE` as read from the file, in any order.
    region
        Range of file offsets that may contain values.

    Returns
    -------
    dict
        For each field with payload: (N,) uint64 file offsets and (N,) uint64 sizes in bytes.

    Raises
    ------
    BetonFormatError
        If a value violates a rule of `BETON.md`; the message names the first such sample and its
        field. TruncatedFile if the table has too few rows.
    """
    pointers = {
        name: np.ascontiguousarray(found)
        for name, field in fields.items()
        if (found := field.pointers(records[name])) is not None
    }
    in_order = _sizes_in_table_order(list(pointers.values()), table)
    if in_order is None:
        sizes = _sizes_by_search(fields, records, pointers, table)
    else:
        sizes = dict(zip(pointers, in_order, strict=True))
    for name, field in fields.items():
        if name in pointers:
            for start in range(0, len(records), _BLOCK):
                block = slice(start, start + _BLOCK)
                _check_sizes(name, field, records[name][block], sizes[name][block], start)
                _check_extents(name, pointers[name][block], sizes[name][block], start, region)
        try:
            if name in sizes:
                field.validate(records[name], sizes[name].view(np.int64))
            else:
                field.validate(records[name], np.zeros(len(records), dtype=np.int64))
        except FieldError as error:
            raise BetonFormatError(f"field {name!r}: {error}") from error
    if in_order is None or not _is_disjoint(table["ptr"], table["size"]):
        _check_overlaps(pointers, sizes)
    return {name: (pointers[name], sizes[name]) for name in pointers}


def values_in_records(
    row_values: NDArray[Any], extents: Mapping[str, Extents], table: NDArray[Any]
) -> dict[str, NDArray[Any]]:
    """Reorder one number per row of the allocation table into one number per record.

    Parameters
    ----------
    row_values
        (T,) array of any numeric dtype, one number per row of the table.
    extents
        Pointers and sizes by field, as `locate_values` returns them.
    table
        (T,) allocation table of `layout.TABLE_DTYPE` as read from the file.

    Returns
    -------
    dict
        For each field with payload: (N,) array with the dtype of `row_values`, 0 for empty values.
    """
    if not extents:
        return {}
    if _sizes_in_table_order([pointers for pointers, _ in extents.values()], table) is not None:
        return {
            name: np.ascontiguousarray(row_values[k :: len(extents)])
            for k, name in enumerate(extents)
        }
    order = np.lexsort((table["size"], table["ptr"]))  # the largest size of a pointer comes last
    sorted_pointers = table["ptr"][order]
    found = {}
    for name, (pointers, sizes) in extents.items():
        rows = np.maximum(np.searchsorted(sorted_pointers, pointers, side="right") - 1, 0)
        found[name] = np.where(sizes > 0, row_values[order][rows], 0).astype(row_values.dtype)
    return found


def _sizes_in_table_order(
    pointers: list[NDArray[np.uint64]], table: NDArray[Any]
) -> list[NDArray[np.uint64]] | None:
    """Return the sizes if the table is in record order with distinct pointers, else None.

    Our writer produces such tables.
    """
    count = len(pointers)
    if count == 0 or len(table) != count * len(pointers[0]):
        return None
    columns = [table[k::count] for k in range(count)]
    if not all(
        np.array_equal(column["ptr"], found)
        for column, found in zip(columns, pointers, strict=True)
    ):
        return None
    if not np.all(table["ptr"][:-1] < table["ptr"][1:]):
        return None
    return [np.ascontiguousarray(column["size"]) for column in columns]


def _sizes_by_search(
    fields: Mapping[str, Field],
    records: NDArray[Any],
    pointers: Mapping[str, NDArray[np.uint64]],
    table: NDArray[Any],
) -> dict[str, NDArray[np.uint64]]:
    """Return the largest size at each pointer, for a table in any order.

    In files from FFCV an empty value shares the pointer of the next value.
    """
    order = np.argsort(table["ptr"])
    sorted_pointers = table["ptr"][order]
    if len(table):
        is_first = np.append(True, sorted_pointers[1:] != sorted_pointers[:-1])
        run_starts = np.flatnonzero(is_first)
        distinct = sorted_pointers[run_starts]
        largest = np.maximum.reduceat(table["size"][order], run_starts)
    else:
        distinct = largest = sorted_pointers
    sizes = {}
    for name, found in pointers.items():
        expected = fields[name].payload_size(records[name])
        empty = np.zeros(len(found), dtype=bool) if expected is None else expected == 0
        positions = np.searchsorted(distinct, found)
        known = positions < len(distinct)
        known[known] = distinct[positions[known]] == found[known]
        if not np.all(known | empty):
            sample = int(np.argmin(known | empty))
            message = (
                f"sample {sample}, field {name!r}: the allocation table of {len(table)} values "
                f"does not contain its pointer {found[sample]}."
            )
            num_required = len(np.unique(np.concatenate(list(pointers.values()))))
            raise (TruncatedFile if len(table) < num_required else BetonFormatError)(message)
        sizes[name] = np.zeros(len(found), dtype=np.uint64)
        sizes[name][~empty] = largest[positions[~empty]]
    return sizes


def _check_sizes(
    name: str, field: Field, records: NDArray[Any], sizes: NDArray[np.uint64], first: int
) -> None:
    """Compare the sizes with those that records require; `first` is the first sample id."""
    expected = field.payload_size(records)
    if expected is None:
        return
    wrong = (expected != SIZE_UNKNOWN) & (expected.astype(np.uint64) != sizes)
    if wrong.any():
        sample = int(np.argmax(wrong))
        raise BetonFormatError(
            f"sample {first + sample}, field {name!r}: {sizes[sample]} bytes are stored, but its "
            f"record requires {expected[sample]}."
        )


def _check_extents(
    name: str,
    pointers: NDArray[np.uint64],
    sizes: NDArray[np.uint64],
    first: int,
    region: DataRegion,
) -> None:
    """Check that every non-empty value lies in the region and inside one page, without overflow."""
    stored = sizes > 0
    start, end = np.uint64(region.start), np.uint64(region.end)
    inside = (pointers >= start) & (pointers < end) & (sizes <= np.uint64(region.page_size))
    inside &= sizes <= np.where(inside, end - pointers, np.uint64(0))
    if not np.all(inside | ~stored):
        sample = int(np.argmin(inside | ~stored))
        raise BetonFormatError(
            f"sample {first + sample}, field {name!r}: {sizes[sample]} bytes at offset "
            f"{pointers[sample]} are not inside the data region ({region.start} to {region.end})."
        )
    crosses = stored & (
        (pointers ^ (pointers + sizes - np.uint64(1))) >= np.uint64(region.page_size)
    )
    if crosses.any():
        sample = int(np.argmax(crosses))
        raise BetonFormatError(
            f"sample {first + sample}, field {name!r}: {sizes[sample]} bytes at offset "
            f"{pointers[sample]} cross a page boundary (pages of {region.page_size} bytes)."
        )


def _is_disjoint(pointers: NDArray[np.uint64], sizes: NDArray[np.uint64]) -> bool:
    """Return whether each value ends before the next; `pointers` are sorted and validated."""
    return bool(np.all(pointers[:-1] + sizes[:-1] <= pointers[1:]))


def _check_overlaps(
    pointers: Mapping[str, NDArray[np.uint64]], sizes: Mapping[str, NDArray[np.uint64]]
) -> None:
    """Check that different values do not overlap; records may share a value."""
    if not pointers:
        return
    stored_pointers = np.concatenate([pointers[name][sizes[name] > 0] for name in pointers])
    stored_sizes = np.concatenate([sizes[name][sizes[name] > 0] for name in pointers])
    distinct, first_use = np.unique(stored_pointers, return_index=True)
    overlapping = distinct[:-1] + stored_sizes[first_use][:-1] > distinct[1:]
    if overlapping.any():
        index = int(np.argmax(overlapping))
        raise BetonFormatError(
            f"two different values overlap, at offsets {distinct[index]} and {distinct[index + 1]}."
        )
