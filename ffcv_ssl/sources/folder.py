"""Folders of image files: one folder per class, or any folder without classes."""

from __future__ import annotations

import os
import shlex

import numpy as np

from ffcv_ssl.codecs.formats import readable_extensions
from ffcv_ssl.errors import SourceError
from ffcv_ssl.sources.ignored import IgnoredFiles, as_sentences, named
from ffcv_ssl.sources.listing import (
    NO_EXTENSION,
    extension_of,
    image_files,
    is_folder,
    visible_entries,
)
from ffcv_ssl.sources.selection import check_listed_classes
from ffcv_ssl.sources.source import PathList, Source
from ffcv_ssl.system.names import unicode_name

SPLIT_FOLDERS = ("train", "training", "val", "valid", "validation", "test", "testing")


def class_folders(root: str, names: list[str] | None = None) -> Source:
    """Open a folder that has one folder per class.

    Every image below a class folder, at any depth, is a sample. `image_files` defines which files
    are images.

    Parameters
    ----------
    root
        Folder that contains the class folders.
    names
        Classes to take, in this order, with or without images. None takes all in sorted order.

    Returns
    -------
    Source
        Paths of the images, sorted by class and path, with labels.

    Raises
    ------
    SourceError
        If there are no class folders, none of the listed classes exists, a class has no images and
        there is no list, or the folders are splits (`SPLIT_FOLDERS`) instead of classes.
    """
    ignored = IgnoredFiles()
    folders = _class_folders(root, ignored, names or [])
    if names is None:
        _refuse_splits(root, folders)
    else:
        check_listed_classes(root, names, list(folders))
    class_names = list(folders) if names is None else names
    ignored.unlisted = sorted(set(folders) - set(class_names))
    files_by_class: list[list[str]] = [
        image_files(root, folders[name], ignored) if name in folders else []  # a listed class
        for name in class_names
    ]
    if names is None:
        counts = zip(class_names, files_by_class, strict=True)
        _refuse_empty_classes(root, [name for name, files in counts if not files], ignored)
    num_images = [len(files) for files in files_by_class]
    labels = np.repeat(np.arange(len(class_names), dtype=np.int64), num_images)
    files = [file for files in files_by_class for file in files]
    return Source(PathList(root, files), labels, list(class_names), notes=tuple(ignored.lines()))


def flat_folder(root: str) -> Source:
    """Open a folder of images without labels.

    Every image below the folder, at any depth, is a sample. `image_files` defines which files are
    images.

    Parameters
    ----------
    root
        The folder.

    Returns
    -------
    Source
        Sorted paths of the images.

    Raises
    ------
    SourceError
        If there are no images.
    """
    ignored = IgnoredFiles()
    files = image_files(root, "", ignored)
    if not files:
        known = " ".join(sorted(readable_extensions()))
        found = as_sentences(ignored.lines())
        raise SourceError(f"{root}: no images in it (looked for {known}).{found}")
    return Source(PathList(root, files), None, None, notes=tuple(ignored.lines()))


def _class_folders(root: str, ignored: IgnoredFiles, listed: list[str]) -> dict[str, str]:
    """Return class name → name on disk, sorted; system folders only if they are listed."""
    known, folders = readable_extensions(), {}
    for entry in visible_entries(root, ignored, frozenset(listed)):
        if is_folder(entry):
            folders[unicode_name(entry.name)] = entry.name
        else:
            extension = extension_of(entry.name)
            counts = ignored.beside if extension in known else ignored.others
            counts[extension or NO_EXTENSION] += 1
    if not folders:
        hint = "use source=flat for a folder of images without classes"
        raise SourceError(f"{root}: no class folders in it; {hint}.")
    return dict(sorted(folders.items()))


def _refuse_splits(root: str, folders: dict[str, str]) -> None:
    """Raise SourceError if all folders are named like splits, each with classes of its own."""
    if not all(name.casefold() in SPLIT_FOLDERS for name in folders):
        return
    commands = []
    for name, folder in folders.items():
        path = os.path.join(root, folder)
        has_classes = any(is_folder(entry) for entry in visible_entries(path, IgnoredFiles()))
        options = "" if has_classes else " --data.source=flat"
        arguments = f"--data.path={shlex.quote(path)} --data.out={name.lower()}.beton{options}"
        commands.append(f"`ffcv-ssl write {arguments}`")
    raise SourceError(
        f"{root}: {', '.join(folders)} look like splits, not classes. Write one file per split: "
        f"{' and '.join(commands)}. If they are classes, list them with --data.classes=FILE."
    )


def _refuse_empty_classes(root: str, empty: list[str], ignored: IgnoredFiles) -> None:
    """Raise SourceError for classes without images: whether they count changes other labels."""
    if not empty:
        return
    raise SourceError(
        f"{root}: class folders without images: {named(empty, 10)}. To keep their labels, list all "
        "classes in a file, one name per line, and give --data.classes=FILE; to leave them out, "
        f"list the others or remove these folders.{as_sentences(ignored.lines())}"
    )
