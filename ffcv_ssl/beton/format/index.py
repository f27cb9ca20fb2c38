"""Where every stored value lies: records and allocation table become pointers and sizes, all checked, vectorised."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ffcv_ssl.errors import BetonFormatError, FieldError, TruncatedFile
from ffcv_ssl.fields.base import SIZE_UNKNOWN, Field

_BLOCK = 1 << 17  # samples checked at a time: what is computed on the way stays in the cache

Extents = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class DataRegion:
    """Where values may lie: file offsets [start, end), no value across a multiple of `page_size`."""

    start: int
    end: int
    page_size: int


def locate_values(
    fields: Mapping[str, Field], records: np.ndarray, table: np.ndarray, region: DataRegion
) -> dict[str, Extents]:
    """Find and check the extent of every stored value.

    Parameters
    ----------
    fields
        In file order.
    records
        (N,) with one column per field, as read.
    table
        (T,) allocation table, as read, in any order.
    region
        Where values may lie.

    Returns
    -------
    dict
        Per field with payload: (N,) uint64 pointers and (N,) uint64 sizes in bytes.

    Raises
    ------
    BetonFormatError
        Naming the first sample and the field that break a rule of BETON.md.
    """
    pointers = {
        name: np.ascontiguousarray(found)
        for name, field in fields.items()
        if (found := field.pointers(records[name])) is not None
    }
    in_order = _sizes_in_table_order(list(pointers.values()), table)
    sizes = (
        _sizes_by_search(fields, records, pointers, table)
        if in_order is None
        else dict(zip(pointers, in_order, strict=True))
    )
    for name, field in fields.items():
        if name in pointers:
            for start in range(0, len(records), _BLOCK):
                block = slice(start, start + _BLOCK)
                _check_sizes(name, field, records[name][block], sizes[name][block], start)
                _check_places(name, pointers[name][block], sizes[name][block], start, region)
        try:
            field.validate(
                records[name],
                sizes[name].view(np.int64)
                if name in sizes
                else np.zeros(len(records), dtype=np.int64),
            )
        except FieldError as error:
            raise BetonFormatError(f"field {name!r}: {error}") from error
    if in_order is None or not _is_disjoint(table["ptr"], table["size"]):
        _check_overlaps(pointers, sizes)
    return {name: (pointers[name], sizes[name]) for name in pointers}


def values_in_records(
    of_rows: np.ndarray, extents: Mapping[str, Extents], table: np.ndarray
) -> dict[str, np.ndarray]:
    """Bring what is known of each row of the allocation table to the records; 0 for empty values.

    Parameters
    ----------
    of_rows
        (T,) one number per row.
    extents
        As `locate_values` returned them.
    table
        (T,) allocation table, as read.

    Returns
    -------
    dict
        Per field with payload (N,), like `of_rows`.
    """
    if not extents:
        return {}
    if _sizes_in_table_order([pointers for pointers, _ in extents.values()], table) is not None:
        return {
            name: np.ascontiguousarray(of_rows[k :: len(extents)]) for k, name in enumerate(extents)
        }
    order = np.lexsort((table["size"], table["ptr"]))  # the largest of a pointer last
    sorted_pointers = table["ptr"][order]
    found = {}
    for name, (pointers, sizes) in extents.items():
        rows = np.maximum(np.searchsorted(sorted_pointers, pointers, side="right") - 1, 0)
        found[name] = np.where(sizes > 0, of_rows[order][rows], 0).astype(of_rows.dtype)
    return found


def _sizes_in_table_order(pointers: list[np.ndarray], table: np.ndarray) -> list[np.ndarray] | None:
    """Sizes where the table lists the values as the records do, sorted and each pointer once, as our writer leaves it; else None."""
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
    records: np.ndarray,
    pointers: Mapping[str, np.ndarray],
    table: np.ndarray,
) -> dict[str, np.ndarray]:
    """Sizes for a table in any order: the largest one at each pointer (in FFCV's files an empty value shares its neighbour's)."""
    order = np.argsort(table["ptr"])
    sorted_pointers = table["ptr"][order]
    run_starts = (
        np.flatnonzero(np.append(True, sorted_pointers[1:] != sorted_pointers[:-1]))
        if len(table)
        else order
    )
    distinct = sorted_pointers[run_starts]
    largest = np.maximum.reduceat(table["size"][order], run_starts) if len(table) else distinct
    sizes = {}
    for name, found in pointers.items():
        expected = fields[name].payload_size(records[name])
        empty = np.zeros(len(found), dtype=bool) if expected is None else expected == 0
        places = np.searchsorted(distinct, found)
        known = places < len(distinct)
        known[known] = distinct[places[known]] == found[known]
        if not np.all(known | empty):
            sample = int(np.argmin(known | empty))
            problem = f"sample {sample}, field {name!r}: its pointer {found[sample]} is not in the allocation table of {len(table)} values."
            wanted = len(np.unique(np.concatenate(list(pointers.values()))))
            raise (TruncatedFile if len(table) < wanted else BetonFormatError)(problem)
        sizes[name] = np.zeros(len(found), dtype=np.uint64)
        sizes[name][~empty] = largest[places[~empty]]
    return sizes


def _check_sizes(
    name: str, field: Field, records: np.ndarray, sizes: np.ndarray, first: int
) -> None:
    """Every stored value has the size that its record asks for; `first` is the id of the first sample given."""
    expected = field.payload_size(records)
    if expected is None:
        return
    wrong = (expected != SIZE_UNKNOWN) & (expected.astype(np.uint64) != sizes)
    if wrong.any():
        sample = int(np.argmax(wrong))
        raise BetonFormatError(
            f"sample {first + sample}, field {name!r}: {sizes[sample]} bytes are stored, but its record asks for {expected[sample]}."
        )


def _check_places(
    name: str, pointers: np.ndarray, sizes: np.ndarray, first: int, region: DataRegion
) -> None:
    """Every value that is not empty lies in the data region and inside one page; no sum can wrap around."""
    stored = sizes > 0
    start, end = np.uint64(region.start), np.uint64(region.end)
    inside = (pointers >= start) & (pointers < end) & (sizes <= np.uint64(region.page_size))
    inside &= sizes <= np.where(inside, end - pointers, np.uint64(0))
    if not np.all(inside | ~stored):
        sample = int(np.argmin(inside | ~stored))
        raise BetonFormatError(
            f"sample {first + sample}, field {name!r}: {sizes[sample]} bytes at {pointers[sample]} are not "
            f"inside the data region from {region.start} to {region.end}."
        )
    crosses = stored & (
        (pointers ^ (pointers + sizes - np.uint64(1))) >= np.uint64(region.page_size)
    )
    if crosses.any():
        sample = int(np.argmax(crosses))
        raise BetonFormatError(
            f"sample {first + sample}, field {name!r}: {sizes[sample]} bytes at {pointers[sample]} "
            f"cross a border of the pages of {region.page_size} bytes."
        )


def _is_disjoint(pointers: np.ndarray, sizes: np.ndarray) -> bool:
    """Whether sorted values, already known to be small and inside the file, end before the next one begins."""
    return bool(np.all(pointers[:-1] + sizes[:-1] <= pointers[1:]))


def _check_overlaps(pointers: Mapping[str, np.ndarray], sizes: Mapping[str, np.ndarray]) -> None:
    """Two records may point to the same value, but different values do not overlap."""
    if not pointers:
        return
    stored_pointers = np.concatenate([pointers[name][sizes[name] > 0] for name in pointers])
    stored_sizes = np.concatenate([sizes[name][sizes[name] > 0] for name in pointers])
    distinct, first_use = np.unique(stored_pointers, return_index=True)
    overlapping = distinct[:-1] + stored_sizes[first_use][:-1] > distinct[1:]
    if overlapping.any():
        place = int(np.argmax(overlapping))
        raise BetonFormatError(
            f"two different values overlap: one at {distinct[place]}, one at {distinct[place + 1]}."
        )
