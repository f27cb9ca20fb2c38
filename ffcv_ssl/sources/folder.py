"""Folders of image files: a folder per class, or any folder without classes."""

from __future__ import annotations

import os

import numpy as np

from ffcv_ssl.errors import SourceError
from ffcv_ssl.sources.selection import check_classes_known
from ffcv_ssl.sources.source import PathList, Source

IMAGE_EXTENSIONS = frozenset(
    [".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".jp2", ".avif"],
)


def class_folders(root: str, names: list[str] | None = None) -> Source:
    """Every folder in `root` is a class, every image below it (at any depth) a sample, given by its path.

    Files count as images by their extension (`IMAGE_EXTENSIONS`, any case); other files and hidden ones (`.…`) are ignored. Links are
    followed. Classes and files come in the order of their names.

    Parameters
    ----------
    root
        Folder of the class folders.
    names
        Only these classes, in this order. Default: all, sorted.

    Raises
    ------
    SourceError
        If there are no classes, a listed one is missing, or one has no images.
    """
    found = sorted(entry.name for entry in _entries(root) if entry.is_dir())
    if not found:
        raise SourceError(f"{root}: no class folders in it; a folder of images without classes is source=flat.")
    if names is not None:
        check_classes_known(names, found)
    class_names = found if names is None else names
    files_by_class = [image_files(root, name) for name in class_names]
    empty = [name for name, files in zip(class_names, files_by_class, strict=True) if not files]
    if empty:
        raise SourceError(
            f"{root}: {len(empty)} of {len(class_names)} class folders hold no images: {', '.join(empty[:10])}; "
            "remove them, or list the classes to take."
        )
    labels = np.repeat(np.arange(len(class_names), dtype=np.int64), [len(files) for files in files_by_class])
    return Source(PathList(root, [file for files in files_by_class for file in files]), labels, list(class_names))


def flat_folder(root: str) -> Source:
    """Every image below `root`, at any depth and without a label, given by its path, sorted; extensions and links as above.

    Raises
    ------
    SourceError
        If there are none.
    """
    files = image_files(root)
    if not files:
        raise SourceError(f"{root}: no images in it (looked for {' '.join(sorted(IMAGE_EXTENSIONS))}).")
    return Source(PathList(root, files), None, None)


def image_files(root: str, below: str = "") -> list[str]:
    """Paths, relative to `root`, of the image files in `root/below` and its folders, sorted.

    Raises
    ------
    SourceError
        If a folder cannot be read.
    """
    files = []
    folders: list[tuple[str, frozenset[str]]] = [(below, frozenset())]
    while folders:
        folder, ancestors = folders.pop()
        identity = os.path.realpath(os.path.join(root, folder))
        if identity in ancestors:  # a link back to a folder above
            continue
        for entry in _entries(os.path.join(root, folder)):
            name = os.path.join(folder, entry.name)
            if entry.is_dir():
                folders.append((name, ancestors | {identity}))
            elif os.path.splitext(entry.name)[1].lower() in IMAGE_EXTENSIONS and (entry.is_file() or entry.is_symlink()):
                files.append(name)  # a broken link too: it is better missed aloud, when it is read
    return sorted(files)


def _entries(folder: str) -> list[os.DirEntry]:
    """Entries of a folder that are not hidden."""
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if not entry.name.startswith(".")]
    except OSError as error:
        raise SourceError(f"{folder}: not a folder that can be read: {error.strerror}.") from error
