"""Malformed values: numbers at limits, JSON of the wrong shape, impossible record types."""

from __future__ import annotations

import json
import random
from typing import Any

DEEP = 100_000  # levels of nesting, far beyond Python's recursion limit
TYPE_TEXTS = (
    "V0",
    "|V0",
    "<S0",
    "<U0",
    "|S0",
    "<f4",
    "<M8[ns]",
    "<m8[25s]",
    "|O",
    "O",
    "<c16",
    "|b1",
    "<i3",
    "<f99",
    "",
    "x",
    ">f8",
    "f4,f4",
)
TYPE_TEXTS += (
    "|V999999999",
    "<U999999999",
    "|S536870912",
    "<f8\0",
    "(0,)<f4",
    "(65536,65536)u1",
    "<i8[",
    "|u1" * 50,
)
SIDES: tuple[Any, ...] = (
    [],
    [0],
    [1],
    [0, 0],
    [65536, 65536],
    [2**31],
    [2**63],
    [2**64],
    [-1],
    [1.5],
    [True],
    [None],
    [[1]],
    ["1"],
    3,
    {},
    "2",
)


def number(rng: random.Random, bits: int, value: int = 0, near: tuple[int, ...] = ()) -> int:
    """Return an unsigned number: a limit, a neighbor of `value` or of `near`, or any."""
    kind = rng.randrange(5)
    if kind == 0:
        chosen = (1 << rng.randrange(bits + 1)) + rng.choice((-1, 0, 1))
    elif kind == 1:
        chosen = value + rng.choice((-1, 1, -2, 2, -8, 8, value, 256, -256, 4096))
    elif kind == 2 and near:
        chosen = rng.choice(near) + rng.choice((-1, 0, 0, 0, 1, -8, 8, 24, -24))
    elif kind == 3:
        chosen = rng.choice(
            (0, 0, 1, 2, 3, 7, 8, 255, 32767, 65535, (1 << bits) - 1, 1 << (bits - 1))
        )
    else:
        chosen = rng.getrandbits(rng.randrange(1, bits + 1))
    return chosen & ((1 << bits) - 1)


def json_value(rng: random.Random) -> Any:
    """Return an unusual JSON value."""
    return rng.choice(
        (
            None,
            True,
            0,
            -1,
            1.5,
            1e308,
            10**30,
            2**64,
            float("nan"),
            float("inf"),
            "",
            "x",
            "\0",
            "\ud800",
            "a" * 5000,
            [],
            {},
            [[]],
            [None],
            {"": None},
            {"type": None},
            {"type": {}},
            [1, "a", None, {}],
            _nested(rng.choice((20, 40, 400))),
            list(range(1000)),
        )
    )


def _nested(depth: int) -> Any:
    """Return lists and dicts nested to a depth."""
    value: Any = []
    for level in range(depth):
        value = [value] if level % 2 else {"a": value}
    return value


def mutated_json(rng: random.Random, value: Any) -> tuple[Any, str]:
    """Return a JSON value with one node replaced, added, repeated or removed, and its path."""
    where: list[str] = []
    if isinstance(value, (dict, list)) and value and rng.random() < 0.8:
        key = rng.choice(list(value) if isinstance(value, dict) else range(len(value)))
        changed: Any = dict(value) if isinstance(value, dict) else list(value)
        action = rng.randrange(8)
        if action == 0:
            del changed[key]
        elif action == 1 and isinstance(changed, dict):
            changed[str(json_value(rng))[:20]] = changed.pop(key)
        elif action == 1:
            changed.insert(key, changed[key])
        else:
            changed[key], below = mutated_json(rng, value[key])
            where.append(below)
        return changed, ".".join([str(key), *where])
    return json_value(rng), "value"


def json_text(rng: random.Random, text: bytes) -> tuple[bytes, str]:
    """Return JSON text with one fault: in tree or bytes, or too deep or large for a parser."""
    kind = rng.randrange(10)
    if kind < 6:
        changed, where = mutated_json(rng, json.loads(text))
        return json.dumps(changed).encode("ascii"), f"tree {where}"
    if kind == 6:
        opening = rng.choice((b"[", b'{"a":', b'{"metadata": ['))
        return opening * DEEP, f"{DEEP} times {opening!r}"
    if kind == 7:
        huge = rng.choice(
            (
                b"1" * 5000,
                b"1e999999999",
                b"-" + b"9" * 400,
                b"1" * 200_000,
                b"0." + b"1" * 100_000,
                b"NaN",
                b"-Infinity",
            )
        )
        return text.replace(b": 0", b": " + huge) if b": 0" in text else huge, "huge number"
    changed_bytes = bytearray(text)
    for _ in range(rng.randrange(1, 4)):
        changed_bytes[rng.randrange(len(changed_bytes))] = rng.randrange(256)
    if kind == 8:
        return bytes(changed_bytes), "bytes"
    return rng.choice(
        (
            b"",
            text[: rng.randrange(len(text))],
            b"\xef\xbb\xbf" + text,
            text + b"\0",
            text + text,
            b"null",
        )
    ), "text"


def record_type(rng: random.Random, record: list) -> tuple[list, str]:
    """Return the stored record type with one impossible field."""
    changed = json.loads(json.dumps(record))
    index = rng.randrange(len(changed))
    entry, kind = changed[index], rng.randrange(6)
    if isinstance(entry[1], list) and rng.random() < 0.5:
        entry = entry[1][rng.randrange(len(entry[1]))]
    if kind == 0:
        entry[1] = rng.choice(TYPE_TEXTS)
    elif kind == 1:
        entry[2:] = [rng.choice(SIDES)]
    elif kind == 2:
        entry[1:] = [rng.choice(TYPE_TEXTS), rng.choice(SIDES)]
    elif kind == 3:
        entry[0] = json_value(rng)
    elif kind == 4:
        changed[index] = json_value(rng)
    else:
        deep: Any = "<i8"
        for _ in range(rng.choice((3, 30, 150))):
            deep = [["a", deep]]
        entry[1] = deep
    return changed, f"record[{index}], way {kind}"
