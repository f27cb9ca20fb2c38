"""CIFAR-10 and CIFAR-100 in their official Python version: the archive or the extracted folder.

The files are pickles. `sources.array_pickle` reads them without running code from them.

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
from numpy.typing import NDArray

from ffcv_ssl.errors import SourceError
from ffcv_ssl.sources.array_pickle import load_arrays
from ffcv_ssl.sources.source import Source

SIDE = 32
LARGEST_FILE = 1 << 28  # bytes of a file in an archive; the largest official one has 155 million


@dataclass(frozen=True)
class Layout:
    """File names of a dataset, and keys in its files.

    Parameters
    ----------
    folder
        Name of the extracted folder.
    archive
        Name of the archive.
    batches
        Split → names of its files.
    meta
        Name of the file with the class names.
    labels_key
        Key of the labels in a batch file.
    names_key
        Key of the class names in the meta file.
    """

    folder: str
    archive: str
    batches: dict[str, tuple[str, ...]]
    meta: str
    labels_key: bytes
    names_key: bytes


CIFAR10 = Layout(
    folder="cifar-10-batches-py",
    archive="cifar-10-python.tar.gz",
    batches={
        "train": tuple(f"data_batch_{number}" for number in range(1, 6)),
        "test": ("test_batch",),
    },
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
    """Open one split of CIFAR-10 or CIFAR-100.

    Parameters
    ----------
    path
        The archive, the extracted folder, or a folder that contains either under its official name.
    split
        "train" or "test".
    layout
        `CIFAR10` or `CIFAR100`.

    Returns
    -------
    Source
        (32, 32, 3) uint8 RGB images with labels and class names.

    Raises
    ------
    SourceError
        If a file is missing or is not an official one.
    """
    names = layout.batches[split]
    files = _read_files(Path(path), layout, (layout.meta, *names))
    meta, *batches = (_unpickle(f"{path}: {name}", content) for name, content in files.items())
    class_names = _class_names(f"{path}: {layout.meta}", meta, layout)
    parts = [
        _batch(f"{path}: {name}", batch, layout, len(class_names))
        for name, batch in zip(names, batches, strict=True)
    ]
    images, labels = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return Source(images, labels, class_names)


def _class_names(where: str, content: dict[Any, Any], layout: Layout) -> list[str]:
    """Return the class names of a meta file."""
    names = _entry(where, content, layout.names_key, list)
    if not all(isinstance(name, (bytes, str)) for name in names):
        raise SourceError(f"{where}: the class names are not all strings.")
    return [_text(name) for name in names]


def _batch(
    where: str, content: dict[Any, Any], layout: Layout, num_classes: int
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return the images (N, 32, 32, 3) and the labels (N,) of a batch file."""
    data = _entry(where, content, b"data", np.ndarray)
    labels = _entry(where, content, layout.labels_key, list)
    is_plain = data.dtype == np.uint8 and data.ndim == 2 and data.shape[1] == 3 * SIDE * SIDE
    if not is_plain or len(labels) != len(data):
        raise SourceError(
            f"{where}: data {data.dtype} {data.shape} with {len(labels)} labels, "
            "wanted uint8 (N, 3072) and N."
        )
    if not all(type(label) is int and 0 <= label < num_classes for label in labels):
        raise SourceError(f"{where}: labels are not all integers in 0..{num_classes - 1}.")
    images = data.reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1)
    return images, np.array(labels, np.int64)


def _read_files(path: Path, layout: Layout, names: tuple[str, ...]) -> dict[str, bytes]:
    """Return name → content of the named files, from a folder or an archive."""
    for candidate in (path, path / layout.folder, path / layout.archive):
        if candidate.is_file():
            return _read_archive(candidate, layout, names)
        if (candidate / names[0]).is_file():
            try:
                return {name: (candidate / name).read_bytes() for name in names}
            except OSError as error:
                raise SourceError(f"{error.filename}: cannot be read: {error.strerror}.") from error
    raise SourceError(
        f"{path}: no {layout.archive}, and no folder with {names[0]} in it; wanted the official "
        "Python version of the dataset."
    )


def _read_archive(path: Path, layout: Layout, names: tuple[str, ...]) -> dict[str, bytes]:
    """Return name → content of the named files of an archive, in the order of `names`."""
    files = {}
    try:
        with tarfile.open(path) as archive:  # one pass: seeking back decompresses it again
            for member in archive:
                folder, _, name = member.name.rpartition("/")
                is_in_folder = folder.rpartition("/")[2] == layout.folder
                if member.isfile() and is_in_folder and name in names:
                    if member.size > LARGEST_FILE:
                        size = f"{member.name} has {member.size:,} bytes"
                        raise SourceError(f"{path}: {size}, wanted at most {LARGEST_FILE:,}.")
                    content = archive.extractfile(member)
                    assert content is not None  # None for links and folders only
                    files[name] = content.read()
    except SourceError:
        raise
    except Exception as error:  # any error of tarfile, its decompressors and number parsers
        reason = str(error) or type(error).__name__
        raise SourceError(f"{path}: the archive cannot be read: {reason}.") from error
    missing = [f"{layout.folder}/{name}" for name in names if name not in files]
    if missing:
        raise SourceError(f"{path}: the archive lacks {', '.join(missing)}.")
    return {name: files[name] for name in names}


def _unpickle(where: str, data: bytes) -> dict[Any, Any]:
    """Return the dict in a pickle of arrays and plain values."""
    try:
        content = load_arrays(data)
    except Exception as error:  # a damaged pickle can raise any exception
        raise SourceError(f"{where}: refused, not a file of this dataset: {error}.") from error
    if not isinstance(content, dict):
        raise SourceError(f"{where}: holds a {type(content).__name__}, wanted a dict.")
    return content


def _entry(where: str, content: dict[Any, Any], key: bytes, kind: type) -> Any:
    """Return the value of a key (bytes or text); raise SourceError if it has another type."""
    value = content.get(key, content.get(key.decode()))
    if not isinstance(value, kind):
        keys = ", ".join(map(_text, content))
        raise SourceError(
            f"{where}: no {kind.__name__} under {key.decode()!r}; found the keys {keys}."
        )
    return value


def _text(name: Any) -> str:
    """Return a key or name as text."""
    return name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)
