"""Measurements of a run, collected in a JSON file. A repeated measurement replaces the old one."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ffcv_ssl.errors import ConfigError
from ffcv_ssl.system.atomic import write_whole


def read_entries(path: Path) -> list[dict[str, Any]]:
    """Return the entries of a file, oldest first.

    Parameters
    ----------
    path
        Path of the JSON file. A missing file has no entries.

    Returns
    -------
    list[dict]
        Entries.

    Raises
    ------
    ConfigError
        If the file does not hold a list of JSON objects.
    """
    if not path.exists():
        return []
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: not valid JSON; remove or restore the file.") from error
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ConfigError(f"{path}: not a list of measurements; remove or restore the file.")
    return entries


def put_entry(path: Path, entry: Mapping[str, Any], identity: Sequence[str]) -> None:
    """Append an entry to a file, and remove the entries that it replaces.

    Parameters
    ----------
    path
        Path of the JSON file, which is created if it does not exist.
    entry
        New entry, fit for JSON.
    identity
        Names of the values that identify an entry. An old entry with the same values is replaced.

    Raises
    ------
    ConfigError
        If the file does not hold a list of JSON objects.
    """

    def key(candidate: Mapping[str, Any]) -> list[Any]:
        return [candidate.get(name) for name in identity]

    kept = [old for old in read_entries(path) if key(old) != key(entry)]
    write_whole(path, (json.dumps([*kept, dict(entry)], indent=2) + "\n").encode())
