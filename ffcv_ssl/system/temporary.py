"""Temporary files next to their targets, with removal of files that killed processes left behind.

A process holds a lock on its temporary file, and the operating system releases the lock when the
process ends. A lock is reliable where a process id is not: another process may reuse the id.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import secrets
import stat
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache

try:
    from fcntl import LOCK_EX, LOCK_NB, flock
except ImportError:  # not a POSIX system: leftover files are not removed
    flock = None  # type: ignore[assignment]

logger = logging.getLogger("ffcv_ssl")

_NAME = re.compile(r"\.ffcv_ssl-([0-9a-f]{8})-[0-9a-f]{16}\.tmp")
_MIN_IDLE_SECONDS = 24 * 3600.0  # before a file of another machine counts as abandoned
_OPEN = os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


def temporary_name(folder: str) -> str:
    """Return an unused path in a folder; its name identifies this machine since its last boot.

    Parameters
    ----------
    folder
        Path of the folder.
    """
    return os.path.join(folder, f".ffcv_ssl-{_machine_id()}-{secrets.token_hex(8)}.tmp")


@contextmanager
def temporary_file(folder: str) -> Iterator[tuple[str, int]]:
    """Create a locked temporary file; delete it when the block ends unless it was renamed.

    Leftover temporary files in the folder are removed first, see `remove_leftovers`.

    Parameters
    ----------
    folder
        Path of an existing, writable folder.

    Yields
    ------
    tuple
        Path and descriptor of the file, open for reading and writing.
    """
    remove_leftovers(folder)
    path, descriptor = _create_locked(folder)
    try:
        yield path, descriptor
    finally:
        with suppress(FileNotFoundError):
            os.unlink(path)
        os.close(descriptor)


def remove_leftovers(folder: str) -> None:
    """Remove the temporary files of killed processes from a folder.

    Each removal is logged with the size of the file; a file that cannot be removed is logged once.
    On some network file systems a lock is visible on one machine only. A file that another machine
    wrote, or this one before its last boot, is therefore removed only after a day without changes.
    On file systems without locks nothing is removed.

    Parameters
    ----------
    folder
        Path of the folder. Nothing happens if it cannot be listed.
    """
    with suppress(OSError), os.scandir(folder) as entries:
        for path in [entry.path for entry in entries if _NAME.fullmatch(entry.name)]:
            _remove_if_abandoned(path)


def _create_locked(folder: str) -> tuple[str, int]:
    """Create a file and lock it; return its path and descriptor."""
    while True:
        path = temporary_name(folder)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        with suppress(OSError):  # the file system does not support locks
            if flock is not None:
                flock(descriptor, LOCK_EX)
        if os.path.lexists(path):
            return path, descriptor
        os.close(descriptor)  # another process removed the file before it was locked: try again


def _remove_if_abandoned(path: str) -> None:
    """Remove a temporary file if the process that wrote it has ended."""
    if flock is None:
        return
    descriptor = None
    try:
        descriptor = _open_for_lock(path)
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            return
        flock(descriptor, LOCK_EX | LOCK_NB)
        is_local = f"-{_machine_id()}-" in os.path.basename(path)
        if not is_local and time.time() - status.st_mtime < _MIN_IDLE_SECONDS:
            return
        os.unlink(path)
        size_mib = status.st_size / 2**20
        logger.warning("removed %s (%.1f MiB), which a killed process left behind.", path, size_mib)
    except (BlockingIOError, FileNotFoundError):
        return  # still in use, or removed in the meantime
    except OSError as error:
        _warn_not_removed(path, error.strerror or str(error))
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _open_for_lock(path: str) -> int:
    """Open a file for writing, which locks on NFS require, or else for reading."""
    try:
        return os.open(path, os.O_RDWR | _OPEN)
    except PermissionError:
        return os.open(path, os.O_RDONLY | _OPEN)


@lru_cache(maxsize=1000)
def _warn_not_removed(path: str, reason: str) -> None:
    """Log once that a leftover file was not removed."""
    logger.warning(
        "could not remove %s (%s). It is a temporary file of a killed process or of another user; "
        "remove it if no process writes to this folder.",
        path,
        reason,
    )


@lru_cache(maxsize=1)
def _machine_id() -> str:
    """Return 8 hex digits that identify this machine since its boot, the same in all containers."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            identity = file.read()
    except OSError:
        identity = f"{uuid.getnode()}"
    return hashlib.sha256(identity.encode()).hexdigest()[:8]
