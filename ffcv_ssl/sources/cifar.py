"""CIFAR-10 and CIFAR-100 as their authors publish them ("python version"), from the archive or the extracted folder.

The files are pickles; `sources.array_pickle` reads them without running or believing anything in them.

References
----------
Layout: https://www.cs.toronto.edu/~kriz/cifar.html.
"""

from __future__ import annotations

import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ffcv_ssl.errors import SourceError
from ffcv_ssl.sources.array_pickle import load_arrays
from ffcv_ssl.sources.source import Source

SIDE = 32
LARGEST_FILE = 1 << 28  # bytes of a file in an archive; the largest published one has 155 million


@dataclass(frozen=True)
class Layout:
    """Where a dataset keeps what: file names in its folder, and keys in those files."""

    folder: str
    archive: str
    batches: dict[str, tuple[str, ...]]  # by split
    meta: str
    labels_key: bytes
    names_key: bytes


CIFAR10 = Layout(
    folder="cifar-10-batches-py",
    archive="cifar-10-python.tar.gz",
    batches={"train": tuple(f"data_batch_{number}" for number in range(1, 6)), "test": ("test_batch",)},
    meta="batches.meta",
    labels_key=b"labels",
    names_key=b"label_names",
)
CIFAR100 = Layout(
    folder="cifar-100-python",
    archive="cifar-100-python.tar.gz",
    batches={"train": ("train",), "test": ("test",)},
    meta="meta",
    labels_key=b"fine_labels",
    names_key=b"fine_label_names",
)


def cifar(path: str, split: str, layout: Layout) -> Source:
    """Open one split; images come as (32, 32, 3) uint8 RGB.

    Parameters
    ----------
    path
        The archive, the extracted folder, or a folder that holds either under its published name.
    split
        "train" or "test".

    Raises
    ------
    SourceError
        If the files are missing or are not what the dataset's authors publish.
    """
    names = (layout.meta, *layout.batches[split])
    files = _read_files(Path(path), layout, names)
    meta, *batches = (_unpickle(f"{path}: {name}", files[name]) for name in names)
    class_names = _class_names(f"{path}: {layout.meta}", meta, layout)
    parts = [_batch(f"{path}: {name}", batch, layout, len(class_names)) for name, batch in zip(layout.batches[split], batches, strict=True)]
    images, labels = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return Source(images, labels, class_names)


def _class_names(where: str, content: dict, layout: Layout) -> list[str]:
    names = _entry(where, content, layout.names_key, list)
    if not all(isinstance(name, (bytes, str)) for name in names):
        raise SourceError(f"{where}: the class names are not all strings.")
    return [_text(name) for name in names]


def _batch(where: str, content: dict, layout: Layout, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, 32, 32, 3) uint8 and labels (N,) int64 of one file."""
    data = _entry(where, content, b"data", np.ndarray)
    labels = _entry(where, content, layout.labels_key, list)
    if data.dtype != np.uint8 or data.ndim != 2 or data.shape[1] != 3 * SIDE * SIDE or len(labels) != len(data):
        raise SourceError(f"{where}: data {data.dtype} {data.shape} with {len(labels)} labels, wanted uint8 (N, 3072) and N.")
    if not all(type(label) is int and 0 <= label < num_classes for label in labels):
        raise SourceError(f"{where}: labels are not all integers in 0..{num_classes - 1}.")
    return data.reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1), np.array(labels, np.int64)


def _read_files(path: Path, layout: Layout, names: tuple[str, ...]) -> dict[str, bytes]:
    """The named files of a dataset, from wherever `path` leads."""
    places = [path, path / layout.folder, path / layout.archive]
    for place in places:
        if place.is_file():
            return _read_archive(place, layout, names)
        if (place / names[0]).is_file():
            try:
                return {name: (place / name).read_bytes() for name in names}
            except OSError as error:
                raise SourceError(f"{error.filename}: cannot be read: {error.strerror}.") from error
    raise SourceError(
        f"{path}: no {layout.archive}, and no folder with {names[0]} in it; wanted the official python version of the dataset."
    )


def _read_archive(path: Path, layout: Layout, names: tuple[str, ...]) -> dict[str, bytes]:
    files = {}
    try:
        with tarfile.open(path) as archive:  # in one pass: going back in a compressed stream means to read it again
            for member in archive:
                folder, _, name = member.name.rpartition("/")
                if member.isfile() and folder.rpartition("/")[2] == layout.folder and name in names:
                    if member.size > LARGEST_FILE:
                        size = f"{member.name} has {member.size:,} bytes"
                        raise SourceError(f"{path}: {size}, wanted at most {LARGEST_FILE:,}.")
                    content = archive.extractfile(member)
                    assert content is not None  # only of links and the like
                    files[name] = content.read()
    except SourceError:
        raise
    except Exception as error:  # tarfile lets out what its decompressors and number parsers raise
        reason = str(error) or type(error).__name__
        raise SourceError(f"{path}: the archive cannot be read: {reason}.") from error
    missing = [name for name in names if name not in files]
    if missing:
        raise SourceError(f"{path}: the archive lacks {', '.join(f'{layout.folder}/{name}' for name in missing)}.")
    return files


def _unpickle(where: str, data: bytes) -> dict:
    try:
        content = load_arrays(data)
    except Exception as error:  # a broken pickle can raise anything
        raise SourceError(f"{where}: refused, not a file of this dataset: {error}.") from error
    if not isinstance(content, dict):
        raise SourceError(f"{where}: holds a {type(content).__name__}, wanted a dict.")
    return content


def _entry(where: str, content: dict, key: bytes, kind: type) -> Any:
    value = content.get(key, content.get(key.decode()))
    if not isinstance(value, kind):
        raise SourceError(f"{where}: no {kind.__name__} under {key.decode()!r}; found the keys {', '.join(map(_text, content))}.")
    return value


def _text(name: Any) -> str:
    return name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)
