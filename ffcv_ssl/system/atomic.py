"""A file appears whole or not at all, whenever the program ends."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from ffcv_ssl.system.files import write_exactly
from ffcv_ssl.system.paths import local_path
from ffcv_ssl.system.temporary import temporary_file, temporary_name


def resolve_target(path: str | os.PathLike) -> str:
    """The absolute path that a new file will take, links followed; OSError if nothing can be put there."""
    target = os.path.realpath(local_path(path))
    folder = os.path.dirname(target)
    if not os.path.isdir(folder):
        raise FileNotFoundError(errno.ENOENT, "the folder to write to does not exist", folder)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, "nothing can be written into this folder", folder)
    if os.path.exists(target) and not os.path.isfile(target):
        raise OSError(errno.EISDIR, "there is something else than a file at this path", target)
    return target


@contextmanager
def replacing(target: str) -> Iterator[int]:
    """Give the descriptor of a new file beside `target`; put it in the target's place when the block ends, remove it if that fails."""
    folder = os.path.dirname(target)
    with temporary_file(folder) as (temporary, descriptor):
        yield descriptor
        os.fsync(descriptor)
        os.replace(temporary, target)
        _sync_folder(folder)


@contextmanager
def replacing_with_list(target: str, list_path: str) -> Iterator[tuple[int, bytearray]]:
    """`replacing` for a file and the list that belongs to it, in the same folder; an empty list is none.

    Two renames are never one step, so for a moment there is no list at all: the old one is put aside, the file takes its place, then the
    new list. A process killed in that moment leaves the old or the new file without a list, never with the other's. (How many samples
    were skipped stands in the file's metadata.) The next conversion to `target` puts both right; the next of any file in the folder
    removes the list that was put aside.

    Yields
    ------
    Descriptor of the new file, and the bytes of its new list, to be filled.
    """
    folder = os.path.dirname(target)
    listed = bytearray()
    with temporary_file(folder) as (new_file, descriptor):
        yield descriptor, listed
        os.fsync(descriptor)
        with temporary_file(folder) as (new_list, list_descriptor):
            write_exactly(list_descriptor, 0, listed)
            os.fsync(list_descriptor)
            _rename_both(new_file, target, new_list if listed else None, list_path)
        _sync_folder(folder)


def _rename_both(new_file: str, target: str, new_list: str | None, list_path: str) -> None:
    """Put the old list aside, the file in its place, then the new list; the old list comes back if the file cannot be renamed."""
    old_list = temporary_name(os.path.dirname(target))
    if os.path.lexists(list_path):
        os.replace(
            list_path, old_list
        )  # and no sync here: the moment without a list is three calls long
    try:
        os.replace(new_file, target)
    finally:  # whatever comes, a signal's exception too: the list that belongs to the file
        with suppress(FileNotFoundError):
            if os.path.lexists(new_file):
                os.replace(old_list, list_path)
            elif new_list is not None:
                os.replace(new_list, list_path)
        with suppress(FileNotFoundError):
            os.unlink(old_list)


def _sync_folder(folder: str) -> None:
    """Make the renaming itself survive a power cut, where the file system can."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network file systems refuse to sync folders
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
