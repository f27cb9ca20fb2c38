"""The options that describe a dataset to convert."""

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
    """A dataset and the samples to take from it.

    Parameters
    ----------
    source
        Kind of dataset: "imagefolder" (one folder per class), "flat" (any folder of images, without
        labels), "cifar10", "cifar100" (the official Python version), "npz" (arrays in one file) or
        "tiny_imagenet".
    path
        Folder, archive or file of the dataset.
    split
        "train" or "test". "imagefolder" and "flat" have one split, in the folder `path`.
    classes
        File with one class name per line. Only these classes are taken; their order defines the
        labels, and a class without images keeps its label. None takes all classes.
    fraction
        Fraction of the samples of each class to take, in (0, 1].
    seed
        Seed that selects the samples kept by `fraction`, 0 to 2**64 - 1.

    Raises
    ------
    ConfigError
        If a value is missing, unknown or out of range.

    Examples
    --------
    >>> from ffcv_ssl.sources import SourceConfig
    >>> SourceConfig(source="cifar10", path="cifar-10-python.tar.gz", fraction=0.1).split
    'train'
    """

    source: SourceName = field(
        default="imagefolder",
        metadata={
            "help": "Kind of dataset: imagefolder (one folder per class), flat (any folder of "
            "images, without labels), cifar10 or cifar100 (official Python version), npz (arrays "
            "in one file), tiny_imagenet"
        },
    )
    path: LocalPath = field(default="", metadata={"help": "Folder, archive or file of the dataset"})
    split: Split = field(
        default="train",
        metadata={
            "help": "Split of cifar10, cifar100, npz and tiny_imagenet; for imagefolder and flat, "
            "`data.path` names the folder of one split"
        },
    )
    classes: LocalPath | None = field(
        default=None,
        metadata={
            "help": "File with one class name per line. Takes only these classes and labels them "
            "in this order; a class without images keeps its label"
        },
    )
    fraction: float = field(
        default=1.0,
        metadata={"help": "Fraction of the samples of each class to take, in (0, 1]"},
    )
    seed: int = field(
        default=0,
        metadata={"help": "Seed that selects the samples kept by `data.fraction`, 0 to 2**64 - 1"},
    )

    def __post_init__(self) -> None:
        if self.source not in SOURCE_NAMES:
            raise ConfigError(f"source is one of {', '.join(SOURCE_NAMES)}, got {self.source!r}.")
        if not self.path:
            raise ConfigError("path is missing: the folder, archive or file of the dataset.")
        if self.split not in SPLITS:
            raise ConfigError(f"split is train or test, got {self.split!r}.")
        if not 0 < self.fraction <= 1:
            raise ConfigError(f"fraction is in (0, 1], got {self.fraction}.")
        if not 0 <= self.seed < 2**64:
            raise ConfigError(f"seed is in [0, 2**64), got {self.seed}.")
