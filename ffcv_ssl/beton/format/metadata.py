"""The JSON metadata of the extension block, validated when a file is opened or a writer is built.

A file is untrusted input. Every entry that this package interprets is checked for its type.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from ffcv_ssl.errors import BetonFormatError, ConfigError
from ffcv_ssl.system.names import unicode_name

# Entries that only this package writes.
RESERVED = ("writer", "seed", "fields", "record", "counts", "sealed")
MAX_DEPTH = 32  # levels of nested lists and objects


def parse_metadata(text: bytes) -> dict[str, Any]:
    """Parse and validate the JSON of an extension block.

    Entries that this package does not interpret may hold anything, up to 32 levels deep.

    Parameters
    ----------
    text
        UTF-8 JSON.

    Raises
    ------
    BetonFormatError
        If the text is not a JSON object, or an entry has the wrong type; the message names it.
    """
    try:
        metadata = json.loads(text.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise BetonFormatError(
            f"the JSON of the extension block cannot be parsed: {error}."
        ) from error
    if not isinstance(metadata, dict):
        kind = _json_type(metadata)
        raise BetonFormatError(f"the JSON of the extension block is a {kind}, not an object.")
    if (problem := _find_problem(metadata)) is not None:
        raise BetonFormatError(f"the JSON of the extension block: {problem}.")
    return metadata


def check_metadata(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the user's metadata as a reader will see it, after a round trip through JSON.

    Parameters
    ----------
    metadata
        Entries to store beside those of the writer.

    Raises
    ------
    ConfigError
        If JSON cannot hold an entry, an entry has the wrong type, or its name is reserved.
    """
    reserved = [name for name in metadata if name in RESERVED]
    if reserved:
        raise ConfigError(f"metadata: the writer sets {reserved[0]!r} itself; use another name.")
    try:
        # File and class names are the same in every locale.
        stored: dict[str, Any] = json.loads(
            unicode_name(json.dumps(dict(metadata), ensure_ascii=False))
        )
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigError(f"metadata cannot be stored as JSON: {error}.") from error
    if (problem := _find_problem(stored)) is not None:
        raise ConfigError(f"metadata: {problem}.")
    return stored


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_string(value: Any) -> bool:
    return isinstance(value, str)


def _is_list(value: Any) -> bool:
    return isinstance(value, list)


def _is_list_of_strings(value: Any) -> bool:
    return value is None or (isinstance(value, list) and all(map(_is_string, value)))


def _is_object_of_integers(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_is_integer, value.values()))


def _is_object_of_fields(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(field, dict) and isinstance(field.get("type"), str) for field in value.values()
    )


_ENTRIES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "writer": (_is_string, "a string"),
    "sealed": (_is_string, "a string"),
    "seed": (_is_integer, "an integer"),
    "fields": (_is_object_of_fields, "an object with an object that has a type for each field"),
    "record": (_is_list, "a list"),
    "counts": (_is_object_of_integers, "an object of integers"),
    "class_names": (_is_list_of_strings, "a list of strings"),
}


def _find_problem(metadata: Mapping[str, Any]) -> str | None:
    """Describe the first invalid entry; None if all entries are valid."""
    for name, (is_valid, expected) in _ENTRIES.items():
        if name in metadata and not is_valid(metadata[name]):
            value = metadata[name]
            detail = " with other contents" if isinstance(value, (dict, list)) else ""
            return f"{name!r} must be {expected}, got a {_json_type(value)}{detail}"
    level: list[Any] = [metadata]
    for _ in range(MAX_DEPTH):
        level = [child for value in level for child in _containers(value)]
        if not level:
            return None
    return f"it is nested deeper than {MAX_DEPTH} levels"


def _containers(value: Any) -> list[Any]:
    """Return the lists and objects directly inside a list or an object."""
    values = value.values() if isinstance(value, dict) else value
    return [child for child in values if isinstance(child, (dict, list))]


def _json_type(value: Any) -> str:
    """Return the JSON name of the type of a value."""
    kinds = {dict: "object", list: "list", str: "string", bool: "boolean", type(None): "null"}
    return kinds.get(type(value), "number")
