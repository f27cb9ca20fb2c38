"""Sections that several commands share."""

from dataclasses import dataclass, field

from ffcv_ssl.system.paths import LocalPath


@dataclass(frozen=True)
class FileConfig:
    """Which file."""

    path: LocalPath = field(metadata={"help": "the .beton file", "positional": "FILE"})
