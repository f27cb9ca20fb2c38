"""Tiny ImageNet (`tiny-imagenet-200`): 200 classes of 64 x 64 pixels.

The training images lie in one folder per class; a text file has the labels of the validation
images.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from ffcv_ssl.errors import SourceError
from ffcv_ssl.sources.folder import class_folders
from ffcv_ssl.sources.ignored import IgnoredFiles, named
from ffcv_ssl.sources.listing import image_files
from ffcv_ssl.sources.source import PathList, Source

FOLDER = "tiny-imagenet-200"


def tiny_imagenet(path: str, split: str) -> Source:
    """Open one split of Tiny ImageNet.

    Parameters
    ----------
    path
        The extracted folder `tiny-imagenet-200`, or the folder that contains it.
    split
        "train" for the training images, "test" for the validation images. The labels of the real
        test set were never published.

    Returns
    -------
    Source
        Paths of the images with labels. The classes are the WordNet ids in sorted order; the
        description has their words under `class_words`.

    Raises
    ------
    SourceError
        If a file is missing, or labels and images do not match.
    """
    candidates = (Path(path), Path(path, FOLDER))
    root = next((folder for folder in candidates if (folder / "wnids.txt").is_file()), None)
    if root is None:
        raise SourceError(
            f"{path}: no wnids.txt in it or in {FOLDER}/; wanted the extracted Tiny ImageNet."
        )
    class_names = sorted({row[0].strip() for row in _rows(root / "wnids.txt", 1)})
    source = _training(root, class_names) if split == "train" else _validation(root, class_names)
    words: dict[str, str] = {}
    if (root / "words.txt").is_file():
        words = {row[0]: row[1] for row in _rows(root / "words.txt", 2)}
    class_words = {name: words[name] for name in class_names if name in words}
    return dataclasses.replace(source, description={"class_words": class_words})


def _training(root: Path, class_names: list[str]) -> Source:
    """Open the training images."""
    source = class_folders(str(root / "train"), class_names)
    assert source.labels is not None
    counts = np.bincount(source.labels, minlength=len(class_names))
    absent = [name for name, count in zip(class_names, counts, strict=True) if not count]
    if absent:
        raise SourceError(
            f"{root / 'train'}: no images of classes that wnids.txt names: {named(absent)}."
        )
    return source


def _validation(root: Path, class_names: list[str]) -> Source:
    """Open the validation images with the labels of their text file."""
    annotations = root / "val" / "val_annotations.txt"
    label_of_class = {name: label for label, name in enumerate(class_names)}
    rows = _rows(annotations, 2)
    class_of_file = {file: name for file, name, *_ in rows}
    twice = sorted({file for file, name, *_ in rows if class_of_file[file] != name})
    if twice:
        raise SourceError(f"{annotations}: more than one class for {named(twice)}.")
    unknown = sorted(set(class_of_file.values()) - set(class_names))
    if unknown:
        raise SourceError(f"{annotations}: classes that wnids.txt does not name: {named(unknown)}.")
    folder = str(root / "val" / "images")
    ignored = IgnoredFiles()
    files = image_files(folder, "", ignored)
    unlabeled = sorted(set(files) - set(class_of_file))
    missing = sorted(set(class_of_file) - set(files))
    if unlabeled or missing:
        raise SourceError(
            f"{annotations}: {len(unlabeled)} images have no label {unlabeled[:3]}, "
            f"{len(missing)} are missing {missing[:3]}."
        )
    labels = np.array([label_of_class[class_of_file[file]] for file in files], np.int64)
    return Source(PathList(folder, files), labels, class_names, notes=tuple(ignored.lines()))


def _rows(path: Path, num_columns: int) -> list[list[str]]:
    """Return the non-empty lines of a tab-separated file with at least `num_columns` columns."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"{path}: cannot be read: {error}.") from error
    rows = [line.split("\t") for line in lines if line.strip()]
    for row in rows:
        if len(row) < num_columns:
            raise SourceError(
                f"{path}: a line of {len(row)} columns, wanted {num_columns} separated by tabs: "
                f"{row!r}."
            )
    return rows
