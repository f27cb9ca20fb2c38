"""The datasets known by name: from a configuration to a source."""

from __future__ import annotations

import dataclasses

from ffcv_ssl.errors import SourceError
from ffcv_ssl.sources.cifar import CIFAR10, CIFAR100, cifar
from ffcv_ssl.sources.config import SourceConfig
from ffcv_ssl.sources.folder import class_folders, flat_folder
from ffcv_ssl.sources.npz import npz_arrays
from ffcv_ssl.sources.selection import read_class_list, select_classes, select_fraction
from ffcv_ssl.sources.source import Source
from ffcv_ssl.sources.tiny_imagenet import tiny_imagenet
from ffcv_ssl.system.paths import local_path


def open_source(config: SourceConfig) -> Source:
    """Open the dataset that a configuration describes, with its classes and fraction selected.

    Raises
    ------
    SourceError
        If the dataset is not what its source name says, or holds nothing.
    """
    names = None if config.classes is None else read_class_list(local_path(config.classes))
    source = _open(config, local_path(config.path), names)
    if names is not None:
        source = select_classes(source, names)
    source = select_fraction(source, config.fraction, config.seed)
    if not len(source):
        of_classes = " of the listed classes" if names is not None else ""
        found = "".join(f" {line[0].upper()}{line[1:]}." for line in source.notes)
        raise SourceError(f"{config.path}: no samples{of_classes}.{found}")
    return dataclasses.replace(source, description={**dataclasses.asdict(config), **source.description})


def _open(config: SourceConfig, path: str, names: list[str] | None) -> Source:
    if config.source in ("imagefolder", "flat"):
        if config.split != "train":
            raise SourceError(f"a {config.source} source holds one split; let path name the folder of the {config.split} images.")
        return class_folders(path, names) if config.source == "imagefolder" else flat_folder(path)
    if config.source == "npz":
        return npz_arrays(path, config.split)
    if config.source == "tiny_imagenet":
        return tiny_imagenet(path, config.split)
    return cifar(path, config.split, CIFAR10 if config.source == "cifar10" else CIFAR100)
