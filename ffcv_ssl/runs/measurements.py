"""Measurements of one run, collected in a JSON file beside it: measuring again replaces what was measured before."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ffcv_ssl.errors import ConfigError
from ffcv_ssl.system.atomic import write_whole


def read_entries(path: Path) -> list[dict[str, Any]]:
    """Entries of a file, oldest first; none where there is no file.

    Raises
    ------
    ConfigError
        If the file holds something else.
    """
    if not path.exists():
        return []
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: not JSON; remove it, or restore what wrote it.") from error
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ConfigError(f"{path}: not a list of measurements; remove it, or restore what wrote it.")
    return entries


def put_entry(path: Path, entry: Mapping[str, Any], identity: Sequence[str]) -> None:
    """Append an entry, in place of any that has the same values under the names `identity`."""

    def who(candidate: Mapping[str, Any]) -> list[Any]:
        return [candidate.get(name) for name in identity]

    kept = [old for old in read_entries(path) if who(old) != who(entry)]
    write_whole(path, (json.dumps([*kept, dict(entry)], indent=2) + "\n").encode())
