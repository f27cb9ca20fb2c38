"""Folders of image files: a folder per class, or any folder without classes."""

from __future__ import annotations

import os
import shlex

import numpy as np

from ffcv_ssl.codecs.formats import readable_extensions
from ffcv_ssl.errors import SourceError
from ffcv_ssl.sources.listing import (
    NO_EXTENSION,
    PassedOver,
    extension_of,
    image_files,
    is_folder,
    named,
    visible_entries,
)
from ffcv_ssl.sources.selection import check_listed_classes
from ffcv_ssl.sources.source import PathList, Source
from ffcv_ssl.system.names import unicode_name

SPLIT_FOLDERS = ("train", "training", "val", "valid", "validation", "test", "testing")


def class_folders(root: str, names: list[str] | None = None) -> Source:
    """Every folder in `root` is a class, every image below it (at any depth) a sample, given by its path.

    `image_files` says which files count as images. Links are followed. Classes and files come in the
    order of their names.

    Parameters
    ----------
    root
        Folder of the class folders.
    names
        Only these classes, in this order, also those without a folder or without images. Default: all,
        sorted.

    Raises
    ------
    SourceError
        If there are no classes, none of the listed ones is there, a class that is not listed has no
        images, or the folders are splits (`SPLIT_FOLDERS`) rather than classes.
    """
    passed_over = PassedOver()
    folders = _class_folders(root, passed_over, names or [])
    if names is None:
        _refuse_splits(root, folders)
    else:
        check_listed_classes(root, names, list(folders))
    class_names = list(folders) if names is None else names
    passed_over.unlisted = sorted(set(folders) - set(class_names))
    files_by_class: list[list[str]] = [
        image_files(root, folders[name], passed_over) if name in folders else []  # a listed class
        for name in class_names
    ]
    if names is None:
        empty = [name for name, files in zip(class_names, files_by_class, strict=True) if not files]
        _refuse_empty_classes(root, empty, passed_over)
    labels = np.repeat(np.arange(len(class_names), dtype=np.int64), [len(files) for files in files_by_class])
    files = [file for files in files_by_class for file in files]
    return Source(PathList(root, files), labels, list(class_names), notes=tuple(passed_over.lines()))


def flat_folder(root: str) -> Source:
    """Every image below `root`, at any depth and without a label, given by its path, sorted.

    Files and links are taken as in `class_folders`.

    Raises
    ------
    SourceError
        If there are none.
    """
    passed_over = PassedOver()
    files = image_files(root, "", passed_over)
    if not files:
        found = "".join(f" {line[0].upper()}{line[1:]}." for line in passed_over.lines())
        looked_for = " ".join(sorted(readable_extensions()))
        raise SourceError(f"{root}: no images in it (looked for {looked_for}).{found}")
    return Source(PathList(root, files), None, None, notes=tuple(passed_over.lines()))


def _class_folders(root: str, passed_over: PassedOver, listed: list[str]) -> dict[str, str]:
    """The folders in `root`, class name → name on disk, sorted; system ones only if they are listed."""
    known, folders = readable_extensions(), {}
    for entry in visible_entries(root, passed_over, frozenset(listed)):
        if is_folder(entry):
            folders[unicode_name(entry.name)] = entry.name
        else:
            extension = extension_of(entry.name)
            counts = passed_over.beside if extension in known else passed_over.others
            counts[extension or NO_EXTENSION] += 1
    if not folders:
        hint = "a folder of images without classes is source=flat"
        raise SourceError(f"{root}: no class folders in it; {hint}.")
    return dict(sorted(folders.items()))


def _refuse_splits(root: str, folders: dict[str, str]) -> None:
    """Refuse a folder whose only folders are training and validation, each with its own classes."""
    if not all(name.casefold() in SPLIT_FOLDERS for name in folders):
        return
    commands = []
    for name, folder in folders.items():
        path = os.path.join(root, folder)
        has_classes = any(is_folder(entry) for entry in visible_entries(path, PassedOver()))
        options = "" if has_classes else " --data.source=flat"
        arguments = f"--data.path={shlex.quote(path)} --data.out={name.lower()}.beton{options}"
        commands.append(f"`ffcv-ssl write {arguments}`")
    raise SourceError(
        f"{root}: {', '.join(folders)} look like splits, not classes. Write a file of each: "
        f"{' and '.join(commands)}. If they are classes, list them with --data.classes=FILE."
    )


def _refuse_empty_classes(root: str, empty: list[str], passed_over: PassedOver) -> None:
    """Refuse classes without images: whether they count decides the labels of all after them."""
    if not empty:
        return
    found = "".join(f" {line[0].upper()}{line[1:]}." for line in passed_over.lines())
    raise SourceError(
        f"{root}: class folders without images: {named(empty, 10)}. To keep their labels, list all "
        "classes in a file, one name per line, and give --data.classes=FILE; to leave them out, list "
        f"the others or remove these folders.{found}"
    )
