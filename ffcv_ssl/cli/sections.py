"""Sections that several commands share."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class FileConfig:
    """Which file."""

    path: str = field(metadata={"help": "the .beton file", "positional": "FILE"})
