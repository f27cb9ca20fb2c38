"""Mutations of a valid file by kind; all but those of `UNSEALED` recompute the checksums."""

from __future__ import annotations

import json
import random
from collections.abc import Callable

import numpy as np

from ffcv_ssl.beton.format.integrity import TRAILER_DTYPE
from ffcv_ssl.beton.format.layout import DESCRIPTOR_DTYPE, HEADER_DTYPE, TABLE_DTYPE
from ffcv_ssl.fields.base import CUSTOM_TYPE_ID
from tests.stress import hostile
from tests.stress.mutate_jpeg import mutated_jpeg
from tests.stress.parts import Parts
from tests.stress.records import borders, leaves, pointing, replace_value, set_word, word

Mutation = Callable[[Parts, random.Random], str]
KINDS: dict[str, tuple[Mutation, int]] = {}
"""Mutations by name: a function that changes parts in place and describes it, and its weight."""
UNSEALED = (
    "bytes",
    "cut",
    "moved",
)  # kinds that do not recompute checksums: damage, while all others are forgery


def kind(weight: int) -> Callable[[Mutation], Mutation]:
    """Register a kind of mutation under the function's name."""

    def register(function: Mutation) -> Mutation:
        KINDS[function.__name__.rstrip("_")] = function, weight
        return function

    return register


def mutate(parts: Parts, rng: random.Random) -> tuple[str, str]:
    """Apply one kind of mutation to the parts; return its name and a description."""
    functions, weights = zip(*KINDS.values(), strict=True)
    while True:
        name = rng.choices(list(KINDS), weights)[0]
        done = functions[list(KINDS).index(name)](parts, rng)
        if done:  # "": this kind does not apply to the file
            return name, done


@kind(10)
def bytes_(parts: Parts, rng: random.Random) -> str:
    """Overwrite some bytes, most of them inside sections."""
    pieces, length = parts.pieces()
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        offset, content = rng.choice([piece for piece in pieces if piece[1]])
        position = (
            rng.randrange(length) if rng.random() < 0.05 else offset + rng.randrange(len(content))
        )
        old = content[position - offset] if 0 <= position - offset < len(content) else 0
        new = rng.choice((rng.randrange(256), old ^ 1 << rng.randrange(8), 0, 255))
        parts.edits.append((position, bytes([new])))
    return f"bytes {parts.edits}"


@kind(4)
def cut(parts: Parts, rng: random.Random) -> str:
    """Truncate or extend the file."""
    pieces, length = parts.pieces()
    offset, content = rng.choice(pieces)
    parts.length = rng.choice(
        (
            offset + rng.randrange(len(content) + 1),
            length - rng.randrange(1, 200),
            length + rng.randrange(1, 100),
        )
    )
    return f"{parts.length} of {length} bytes"


@kind(3)
def moved(parts: Parts, rng: random.Random) -> str:
    """Copy a range of bytes to another offset."""
    pieces, _ = parts.pieces()
    full = [piece for piece in pieces if piece[1]]
    (_, source), (offset, target) = rng.choice(full), rng.choice(full)
    start, size = rng.randrange(len(source)), rng.choice((1, 4, 8, 16, 24, 100, 1000))
    target_offset = offset + rng.randrange(len(target))
    parts.edits.append((target_offset, source[start : start + size]))
    return f"{len(parts.edits[-1][1])} bytes to {target_offset}"


@kind(4)
def header(parts: Parts, rng: random.Random) -> str:
    """Set one or two fields of the header."""
    own = {name: int(parts.header[name][0]) for name in HEADER_DTYPE.names}
    for name in rng.sample(list(HEADER_DTYPE.names), rng.choice((1, 1, 2))):
        bits = 8 * HEADER_DTYPE[name].itemsize
        parts.header_edits[name] = hostile.number(rng, bits, own[name], borders(parts))
    return f"header {parts.header_edits}"


@kind(10)
def descriptor(parts: Parts, rng: random.Random) -> str:
    """Change type, name or arguments of a field, or add or remove a field."""
    action, index = rng.randrange(8), rng.randrange(len(parts.descriptors))
    row = parts.descriptors[index : index + 1]
    if action == 0:
        row["type_id"] = rng.choice((0, 1, 2, 3, 4, 5, 6, 7, 254, 255))
    elif action == 1:
        row["name"][0, rng.randrange(16)] = rng.choice((0, 32, 47, 97, 127, 200, 255))
    elif action == 2:
        row["name"] = parts.descriptors["name"][rng.randrange(len(parts.descriptors))]
    elif action in (3, 4):
        words = row["arguments"].view("<u8")
        word = rng.choice((0, 1, 2, 31, 32, 33, rng.randrange(128)))
        words[0, word] = hostile.number(rng, 64, int(words[0, word]))
    elif action == 5:
        text = (
            json.dumps([["", rng.choice(hostile.TYPE_TEXTS)]]) if rng.random() < 0.7 else "[" * 700
        )
        encoded = text.encode()[:700]
        row["arguments"].view("<u8")[0, 32] = len(encoded)
        row["arguments"][0, 264 : 264 + len(encoded)] = np.frombuffer(encoded, np.uint8)
        row["type_id"] = rng.choice((4, 6, int(row["type_id"][0])))
    else:
        rows = (
            np.delete(parts.descriptors, index)
            if action == 6
            else np.insert(parts.descriptors, index, row[0])
        )
        parts.descriptors = np.frombuffer(bytearray(rows.tobytes()), DESCRIPTOR_DTYPE)
        return f"{len(rows)} descriptors"
    name = row["name"][0].tobytes()
    return f"descriptor {index}, action {action}: type {row['type_id'][0]}, {name!r}"


@kind(12)
def record(parts: Parts, rng: random.Random) -> str:
    """Set any number of any record, or repeat, drop or swap records."""
    if rng.random() < 0.15:
        order = rng.choices(
            range(len(parts.records)),
            k=rng.choice((0, 1, len(parts.records), len(parts.records) + 3)),
        )
        itemsize, raw = parts.records.dtype.itemsize, memoryview(parts.records).cast("B")
        parts.records = np.frombuffer(
            b"".join(bytes(raw[i * itemsize :][:itemsize]) for i in order), parts.records.dtype
        )
        return f"records {order}"
    texts = []
    for _ in range(rng.choice((1, 1, 2, 4))):
        offset, size, name = rng.choice(list(leaves(parts.records.dtype)))
        row = rng.randrange(len(parts.records))
        set_word(parts.records, row, offset, size, rng, parts)
        texts.append(f"record {row} {name}")
    return ", ".join(texts)


@kind(8)
def table(parts: Parts, rng: random.Random) -> str:
    """Set any number of any row of the allocation table, or repeat, drop or swap rows."""
    if not len(parts.table):
        return ""
    if rng.random() < 0.4:
        order = list(range(len(parts.table)))
        change = rng.randrange(3)
        if change == 0:
            rng.shuffle(order)
        elif change == 1:
            del order[rng.randrange(len(order))]
        else:
            order.insert(rng.randrange(len(order)), rng.choice(order))
        parts.table = parts.table[order]
        return f"table rows {order}"
    name, row = rng.choice(TABLE_DTYPE.names), rng.randrange(len(parts.table))
    parts.table[name][row] = hostile.number(rng, 64, int(parts.table[name][row]), borders(parts))
    return f"table row {row} {name} = {parts.table[name][row]}"


@kind(8)
def relocated(parts: Parts, rng: random.Random) -> str:
    """Change the offset of a value consistently in table and record, sometimes also its size."""
    rows = pointing(parts)
    if not rows:
        return ""
    row = rng.choice(list(rows))
    sample_id, pointer_at, size_at = rows[row]
    pointer, size = int(parts.table["ptr"][row]), int(parts.table["size"][row])
    other = int(parts.table["ptr"][rng.randrange(len(parts.table))])
    new = rng.choice((other, hostile.number(rng, 64, pointer, borders(parts))))
    parts.table["ptr"][row] = new
    word(parts.records, sample_id, pointer_at, 8)[:] = np.uint64(new)
    if rng.random() < 0.5:
        size = hostile.number(rng, rng.choice((12, 22, 64)), size)
        parts.table["size"][row] = size
        if size_at is not None:
            word(parts.records, sample_id, size_at, 8)[:] = np.uint64(size)
    return f"row {row}: {size} bytes at {new}"


@kind(10)
def metadata(parts: Parts, rng: random.Random) -> str:
    """Change the JSON of the block: types, depth, numbers, bytes."""
    if parts.block is None:
        return ""
    parts.block.json_text, done = hostile.json_text(rng, parts.block.json_text)
    return f"metadata {done}"


@kind(8)
def record_type(parts: Parts, rng: random.Random) -> str:
    """Make the record type in the metadata impossible."""
    if parts.block is None or not (parts.descriptors["type_id"] == CUSTOM_TYPE_ID).any():
        return ""
    content = json.loads(parts.block.json_text)
    content["record"], done = hostile.record_type(rng, content["record"])
    parts.block.json_text = json.dumps(content).encode("ascii")
    return done


@kind(8)
def block(parts: Parts, rng: random.Random) -> str:
    """Change the number of checksums, or any word of the finished block."""
    if parts.block is None:
        return ""
    choice = rng.randrange(5)
    if choice == 0:
        parts.block.num_pages = rng.choice((0, 2, 2, 2, 3, 4, 1000))
        return f"{parts.block.num_pages} page checksums"
    if choice == 1:
        parts.block.num_values = rng.choice(
            (0, 1, len(parts.table) + 1, max(len(parts.table) - 1, 0), 10_000)
        )
        return f"{parts.block.num_values} value checksums"
    name = rng.choice(TRAILER_DTYPE.names) if choice == 2 else ""
    position, size, value, near = (
        rng.random(),
        rng.choice((4, 8)),
        rng.getrandbits(32),
        borders(parts),
    )

    def edit(finished: bytearray) -> None:
        own = random.Random(value)
        at, count = int(position * (len(finished) // size)) * size, size
        if name:
            at, count = (
                len(finished) - TRAILER_DTYPE.itemsize + TRAILER_DTYPE.fields[name][1],
                TRAILER_DTYPE[name].itemsize,
            )
        old = int.from_bytes(finished[at : at + count], "little")
        finished[at : at + count] = hostile.number(own, 8 * count, old, near).to_bytes(
            count, "little"
        )

    parts.block_edits.append(edit)
    return f"block {name or f'word at {position:.3f}'}"


@kind(10)
def value(parts: Parts, rng: random.Random) -> str:
    """Replace a stored value by malformed bytes, with consistent table, record and checksums."""
    rows = pointing(parts)
    if not rows:
        return ""
    row = rng.choice(list(rows))
    old = parts.stored(int(parts.table["ptr"][row]), int(parts.table["size"][row]))
    if old[-1:] == b"\0" and old[:1] in b"{[":
        new, done = hostile.json_text(rng, old[:-1])
        new += b"\0" * (rng.random() < 0.9)
    else:
        length = rng.choice(
            (0, 1, max(len(old) - 1, 0), len(old), len(old) + 1, 3 * len(old), 70_000)
        )
        new, done = (
            rng.choice(
                (old.ljust(length, b"\0")[:length], rng.randbytes(length), b"\xff" * length)
            ),
            "bytes",
        )
    replace_value(parts, rows, row, new)
    return f"row {row}: {done}, {len(new)} bytes"


@kind(25)
def jpeg(parts: Parts, rng: random.Random) -> str:
    """Replace a JPEG by a malformed one, with consistent table, record and checksums."""
    rows = pointing(parts)
    found = {
        row: parts.stored(int(parts.table["ptr"][row]), int(parts.table["size"][row]))
        for row in rows
    }
    images = [row for row, data in found.items() if data[:2] == b"\xff\xd8"]
    if not images:
        return ""
    row = rng.choice(images)
    new, done, size = mutated_jpeg(found[row], rng)
    replace_value(parts, rows, row, new)
    if size is not None:  # store the size of the forged frame header in the record
        (
            parts.records["image"]["height"][rows[row][0]],
            parts.records["image"]["width"][rows[row][0]],
        ) = size
    return f"row {row}: {done}"
