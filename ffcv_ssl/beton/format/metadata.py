"""The JSON of the extension block: hostile input like all of a file, checked once when it is opened."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from ffcv_ssl.errors import BetonFormatError, ConfigError
from ffcv_ssl.system.names import unicode_name

RESERVED = (
    "writer",
    "seed",
    "fields",
    "record",
    "counts",
    "sealed",
)  # written by this package alone
MAX_DEPTH = 32  # of nested lists and objects


def parse_metadata(text: bytes) -> dict[str, Any]:
    """Read the JSON of a block.

    Names of its own that this package gives a meaning to have the type that goes with it; everything
    else is the user's, and only its depth is bounded.

    Raises
    ------
    BetonFormatError
        Naming the entry that is not of its type.
    """
    try:
        metadata = json.loads(text.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise BetonFormatError(
            f"the JSON of the extension block cannot be read: {error}."
        ) from error
    if not isinstance(metadata, dict):
        raise BetonFormatError(
            f"the JSON of the extension block is a {_kind(metadata)}, not an object."
        )
    if (problem := _problem(metadata)) is not None:
        raise BetonFormatError(f"the JSON of the extension block: {problem}.")
    return metadata


def check_metadata(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the user's metadata as JSON gives it back; ConfigError if it cannot be stored."""
    taken = [name for name in metadata if name in RESERVED]
    if taken:
        raise ConfigError(
            f"metadata: {taken[0]!r} is written by the writer itself; choose another name."
        )
    try:
        # Names of files and classes hold the same letters in every locale.
        stored = json.loads(unicode_name(json.dumps(dict(metadata), ensure_ascii=False)))
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigError(f"metadata is not fit for JSON: {error}.") from error
    if (problem := _problem(stored)) is not None:
        raise ConfigError(f"metadata: {problem}.")
    return stored


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _described_fields(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(field, dict) and isinstance(field.get("type"), str) for field in value.values()
    )


_ENTRIES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "writer": (_is_text, "a string"),
    "sealed": (_is_text, "a string"),
    "seed": (_is_whole, "an integer"),
    "fields": (_described_fields, "an object that describes each field by an object with its type"),
    "record": (lambda value: isinstance(value, list), "a list"),
    "counts": (
        lambda value: isinstance(value, dict) and all(map(_is_whole, value.values())),
        "an object of integers",
    ),
    "class_names": (
        lambda value: value is None or (isinstance(value, list) and all(map(_is_text, value))),
        "a list of strings",
    ),
}


def _problem(metadata: Mapping[str, Any]) -> str | None:
    """What is wrong with metadata, or None."""
    for name, (is_right, wanted) in _ENTRIES.items():
        if name in metadata and not is_right(metadata[name]):
            return f"{name!r} is {wanted}, got a {_kind(metadata[name])}" + (
                " that holds something else" if isinstance(metadata[name], (dict, list)) else ""
            )
    level: list[Any] = [metadata]
    for _ in range(MAX_DEPTH):
        level = [child for value in level for child in _children(value)]
        if not level:
            return None
    return f"it is nested deeper than {MAX_DEPTH} levels"


def _children(value: Any) -> list[Any]:
    """The lists and objects inside a list or an object."""
    values = value.values() if isinstance(value, dict) else value
    return [child for child in values if isinstance(child, (dict, list))]


def _kind(value: Any) -> str:
    """JSON's word for the type of a value."""
    kinds = {dict: "object", list: "list", str: "string", bool: "boolean", type(None): "null"}
    return kinds.get(type(value), "number")
