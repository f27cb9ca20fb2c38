"""Sections that several commands share."""

from dataclasses import dataclass, field

from ffcv_ssl.system.paths import LocalPath


@dataclass(frozen=True)
class FileConfig:
    """The file to work on."""

    path: LocalPath = field(metadata={"help": "Path of the .beton file", "positional": "FILE"})
