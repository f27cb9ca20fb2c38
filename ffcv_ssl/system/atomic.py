"""Atomic replacement of files: a reader of the path sees the old or the new file, never a part."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from ffcv_ssl.system.files import write_exactly
from ffcv_ssl.system.paths import local_path
from ffcv_ssl.system.temporary import temporary_file, temporary_name


def resolve_target(path: str | bytes | os.PathLike[str]) -> str:
    """Return the absolute path that a new file will take, with symbolic links resolved.

    Parameters
    ----------
    path
        Path of the file to write; `~` is expanded.

    Raises
    ------
    ConfigError
        If the path is not a local path.
    OSError
        If the folder does not exist or is not writable, or the path is not a regular file.
    """
    target = os.path.realpath(local_path(path))
    folder = os.path.dirname(target)
    if not os.path.isdir(folder):
        raise FileNotFoundError(errno.ENOENT, "the folder to write to does not exist", folder)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, "the folder to write to is not writable", folder)
    if os.path.exists(target) and not os.path.isfile(target):
        raise OSError(errno.EISDIR, "the path exists and is not a regular file", target)
    return target


def write_whole(path: str | os.PathLike[str], content: bytes) -> None:
    """Write a file atomically: `path` holds either the old or the new content.

    Parameters
    ----------
    path
        Path of the file; `~` is expanded.
    content
        All bytes of the new file.

    Raises
    ------
    ConfigError, OSError
        As `resolve_target`. OSError also if the bytes cannot be written.
    """
    with (
        replacing(resolve_target(path)) as descriptor,
        os.fdopen(descriptor, "wb", closefd=False) as file,
    ):
        file.write(content)


@contextmanager
def replacing(target: str) -> Iterator[int]:
    """Replace a file when the block succeeds; leave it unchanged when the block fails.

    Parameters
    ----------
    target
        Path as returned by `resolve_target`.

    Yields
    ------
    int
        Descriptor of an empty temporary file in the same folder, open for reading and writing. At
        the end of the block it is flushed to disk and renamed to `target`.
    """
    folder = os.path.dirname(target)
    with temporary_file(folder) as (temporary, descriptor):
        yield descriptor
        os.fsync(descriptor)
        os.replace(temporary, target)
        _sync_folder(folder)


@contextmanager
def replacing_with_list(target: str, list_path: str) -> Iterator[tuple[int, bytearray]]:
    """Replace a file together with the list file that belongs to it.

    Two renames are not atomic. The old list is therefore renamed to a temporary name first, then
    the file is replaced, then the new list takes its name. A process that is killed in between
    leaves a file without a list, but never a file beside the list of another one. The next write to
    `target` completes the pair. The next write to any file in the folder removes the old list.

    Parameters
    ----------
    target
        Path of the file, as returned by `resolve_target`.
    list_path
        Path of the list, in the same folder.

    Yields
    ------
    tuple
        Descriptor of an empty temporary file as in `replacing`, and a bytearray that the block
        fills with the content of the list. If it stays empty, no list is written and an existing
        one is removed.
    """
    folder = os.path.dirname(target)
    list_content = bytearray()
    with temporary_file(folder) as (new_file, descriptor):
        yield descriptor, list_content
        os.fsync(descriptor)
        with temporary_file(folder) as (new_list, list_descriptor):
            write_exactly(list_descriptor, 0, list_content)
            os.fsync(list_descriptor)
            _rename_both(new_file, target, new_list if list_content else None, list_path)
        _sync_folder(folder)


def _rename_both(new_file: str, target: str, new_list: str | None, list_path: str) -> None:
    """Rename file and list; restore the old list if the file cannot be renamed."""
    old_list = temporary_name(os.path.dirname(target))
    if os.path.lexists(list_path):
        os.replace(list_path, old_list)  # no sync: keeps the interval without a list short
    try:
        os.replace(new_file, target)
    finally:  # also after an exception from a signal handler: keep the list that matches the file
        with suppress(FileNotFoundError):
            if os.path.lexists(new_file):
                os.replace(old_list, list_path)
            elif new_list is not None:
                os.replace(new_list, list_path)
        with suppress(FileNotFoundError):
            os.unlink(old_list)


def _sync_folder(folder: str) -> None:
    """Flush a rename to disk, so that it survives a power failure."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network file systems do not support fsync on folders
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
