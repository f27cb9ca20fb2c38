"""What the user says about the dataset to convert."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

from ffcv_ssl.errors import ConfigError
from ffcv_ssl.system.paths import LocalPath

SourceName = Literal["imagefolder", "flat", "cifar10", "cifar100", "npz", "tiny_imagenet"]
Split = Literal["train", "test"]
SOURCE_NAMES: tuple[str, ...] = get_args(SourceName)
SPLITS: tuple[str, ...] = get_args(Split)


@dataclass(frozen=True)
class SourceConfig:
    """Which samples of which dataset.

    Raises
    ------
    ConfigError
        If a value is missing, unknown or out of range.
    """

    source: SourceName = field(
        default="imagefolder",
        metadata={
            "help": "kind of dataset: imagefolder (a folder per class), flat (any folder of images, no labels), cifar10 or cifar100 "
            "(official python version), npz (arrays), tiny_imagenet"
        },
    )
    path: LocalPath = field(default="", metadata={"help": "folder, archive or file of the dataset"})
    split: Split = field(
        default="train",
        metadata={"help": "train or test, where the dataset holds both; an imagefolder or flat folder is one split, named by its path"},
    )
    classes: LocalPath | None = field(
        default=None,
        metadata={
            "help": "file with one class name per line: only these classes, labelled in this order; one without images keeps its label "
            "(default: all)"
        },
    )
    fraction: float = field(default=1.0, metadata={"help": "share of the samples of each class to take, in (0, 1]"})
    seed: int = field(default=0, metadata={"help": "chooses the samples of a fraction, in [0, 2**64)"})

    def __post_init__(self) -> None:
        if self.source not in get_args(SourceName):
            raise ConfigError(f"source is one of {', '.join(get_args(SourceName))}, got {self.source!r}.")
        if not self.path:
            raise ConfigError("path is missing: the folder, archive or file of the dataset.")
        if self.split not in get_args(Split):
            raise ConfigError(f"split is train or test, got {self.split!r}.")
        if not 0 < self.fraction <= 1:
            raise ConfigError(f"fraction is a share in (0, 1], got {self.fraction}.")
        if not 0 <= self.seed < 2**64:
            raise ConfigError(f"seed is in [0, 2**64), got {self.seed}.")
