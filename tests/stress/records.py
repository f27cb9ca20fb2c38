"""Numbers inside records of any type: their offsets, and which of them point to values."""

from __future__ import annotations

import random

import numpy as np

from tests.stress import hostile
from tests.stress.parts import Parts

Pointing = tuple[int, int, int | None]  # sample; offsets in its record of pointer and size, if any


def borders(parts: Parts) -> tuple[int, ...]:
    """Return the file offsets where sections and values begin or end."""
    sections = (
        0,
        24,
        parts.records_start,
        parts.records_end,
        parts.first_page,
        parts.first_page + len(parts.payload),
        parts.pages_end,
    )
    return (*sections, int(parts.header["alloc_table_ptr"][0]), *map(int, parts.table["ptr"][:4]))


def leaves(dtype: np.dtype, start: int = 0, prefix: str = "") -> list[tuple[int, int, str]]:
    """Return (offset, bytes, name) of every number in a record."""
    if dtype.names is None:
        base = dtype.base
        count = dtype.itemsize // max(base.itemsize, 1)
        return [
            (start + i * base.itemsize, base.itemsize, f"{prefix}[{i}]" if count > 1 else prefix)
            for i in range(count)
        ]
    found = []
    for name in dtype.names:
        part, offset = dtype.fields[name][:2]
        found += leaves(part, start + offset, f"{prefix}.{name}".lstrip("."))
    return found


def word(records: np.ndarray, row: int, offset: int, size: int) -> np.ndarray:
    """Return a view of one number inside a record, (1,)."""
    start = row * records.dtype.itemsize + offset
    return np.frombuffer(memoryview(records).cast("B")[start : start + size], f"<u{size}")


def set_word(
    records: np.ndarray, row: int, offset: int, size: int, rng: random.Random, parts: Parts
) -> None:
    """Set one number inside a record to an unusual value."""
    number = word(records, row, offset, size)
    number[0] = hostile.number(rng, 8 * size, int(number[0]), borders(parts))


def pointing(parts: Parts) -> dict[int, Pointing]:
    """Return the rows of the table to which records point, and the offsets of the pointers."""
    wide, found = [leaf for leaf in leaves(parts.records.dtype) if leaf[1] == 8], {}
    for sample_id in range(len(parts.records)):
        words = {offset: int(word(parts.records, sample_id, offset, 8)[0]) for offset, _, _ in wide}
        for row, (pointer, size) in enumerate(
            zip(parts.table["ptr"].tolist(), parts.table["size"].tolist(), strict=True)
        ):
            at = next((offset for offset, word in words.items() if word == pointer), None)
            if at is not None:
                found[row] = sample_id, at, at + 8 if words.get(at + 8) == size else None
    return found


def replace_value(parts: Parts, rows: dict[int, Pointing], row: int, new: bytes) -> None:
    """Store another value for a row and update its record."""
    sample_id, pointer_at, size_at = rows[row]
    word(parts.records, sample_id, pointer_at, 8)[0] = parts.store(row, new)
    if size_at is not None:
        word(parts.records, sample_id, size_at, 8)[0] = len(new)
