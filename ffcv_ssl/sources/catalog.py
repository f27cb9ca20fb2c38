"""Open a dataset by the name of its kind."""

from __future__ import annotations

import dataclasses

from ffcv_ssl.errors import SourceError
from ffcv_ssl.sources.cifar import CIFAR10, CIFAR100, cifar
from ffcv_ssl.sources.config import SourceConfig
from ffcv_ssl.sources.folder import class_folders, flat_folder
from ffcv_ssl.sources.ignored import as_sentences
from ffcv_ssl.sources.npz import npz_arrays
from ffcv_ssl.sources.selection import read_class_list, select_classes, select_fraction
from ffcv_ssl.sources.source import Source
from ffcv_ssl.sources.tiny_imagenet import tiny_imagenet
from ffcv_ssl.system.paths import local_path


def open_source(config: SourceConfig) -> Source:
    """Open a dataset and select its classes and a fraction of its samples.

    Parameters
    ----------
    config
        The dataset and the selection.

    Returns
    -------
    Source
        The selected samples. Its description contains the configuration.

    Raises
    ------
    SourceError
        If the dataset cannot be read, is not of the named kind, or has no samples.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> from ffcv_ssl.sources import SourceConfig, open_source
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "digits.npz")
    ...     np.savez(path, images=np.zeros((10, 8, 8), np.uint8), labels=np.arange(10) % 2)
    ...     source = open_source(SourceConfig(source="npz", path=path, fraction=0.4))
    >>> len(source), source[0][1]
    (4, 0)
    """
    names = None if config.classes is None else read_class_list(local_path(config.classes))
    source = _open(config, local_path(config.path), names)
    if names is not None:
        source = select_classes(source, names)
    source = select_fraction(source, config.fraction, config.seed)
    if not len(source):
        of_classes = " of the listed classes" if names is not None else ""
        raise SourceError(f"{config.path}: no samples{of_classes}.{as_sentences(source.notes)}")
    description = {**dataclasses.asdict(config), **source.description}
    return dataclasses.replace(source, description=description)


def _open(config: SourceConfig, path: str, names: list[str] | None) -> Source:
    """Open all samples of a dataset; image folders need the class list for their layout."""
    if config.source in ("imagefolder", "flat"):
        if config.split != "train":
            raise SourceError(
                f"a source of kind {config.source} has one split; let path name the folder of the "
                f"{config.split} images."
            )
        return class_folders(path, names) if config.source == "imagefolder" else flat_folder(path)
    if config.source == "npz":
        return npz_arrays(path, config.split)
    if config.source == "tiny_imagenet":
        return tiny_imagenet(path, config.split)
    return cifar(path, config.split, CIFAR10 if config.source == "cifar10" else CIFAR100)
