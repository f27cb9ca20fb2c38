"""Temporary files beside their targets: held by a lock while they are written, removed when their process was killed."""

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
except ImportError:  # not a POSIX system: nothing is removed there
    flock = None  # type: ignore[assignment]

logger = logging.getLogger("ffcv_ssl")

_NAME = re.compile(r"\.ffcv_ssl-([0-9a-f]{8})-[0-9a-f]{16}\.tmp")
_QUIET_S = 24 * 3600.0  # what another machine has not touched for so long is left over
_OPEN = os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


def temporary_name(folder: str) -> str:
    """A path in `folder` that no file has; it names this machine since it was last started."""
    return os.path.join(folder, f".ffcv_ssl-{_machine()}-{secrets.token_hex(8)}.tmp")


@contextmanager
def temporary_file(folder: str) -> Iterator[tuple[str, int]]:
    """Path and descriptor of a new file, which is gone when the block ends unless it was renamed. Leftovers in `folder` go first."""
    remove_leftovers(folder)
    path, descriptor = _create(folder)
    try:
        yield path, descriptor
    finally:
        with suppress(FileNotFoundError):
            os.unlink(path)
        os.close(descriptor)


def remove_leftovers(folder: str) -> None:
    """Remove the temporary files that killed processes left in `folder`, and log their sizes; what cannot be removed is named once.

    A process holds a lock on its temporary file, which ends with the process: the number of a dead process may belong to another one,
    a lock may not. On some network file systems locks hold on one machine only. So a file of another machine, or from before a restart,
    also has to be untouched for a day. Where the file system has no locks, nothing is removed.
    """
    with suppress(OSError), os.scandir(folder) as entries:
        for path in [entry.path for entry in entries if _NAME.fullmatch(entry.name)]:
            _remove_if_abandoned(path)


def _create(folder: str) -> tuple[str, int]:
    """A new file with a lock on it."""
    while True:
        path = temporary_name(folder)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        with suppress(OSError):  # a file system without locks
            if flock is not None:
                flock(descriptor, LOCK_EX)
        if os.path.lexists(path):
            return path, descriptor
        os.close(
            descriptor
        )  # another process held it for a leftover, in the moment before it was locked


def _remove_if_abandoned(path: str) -> None:
    """Remove one temporary file if its process is dead."""
    if flock is None:
        return
    descriptor = None
    try:
        descriptor = _open(path)
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            return
        flock(descriptor, LOCK_EX | LOCK_NB)
        if (
            f"-{_machine()}-" not in os.path.basename(path)
            and time.time() - found.st_mtime < _QUIET_S
        ):
            return
        os.unlink(path)
        logger.warning(
            "removed %s (%.1f MiB), left by a process that was killed.", path, found.st_size / 2**20
        )
    except (BlockingIOError, FileNotFoundError):
        return  # in use, or finished meanwhile
    except OSError as error:
        _say_that_it_stays(path, error.strerror or str(error))
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _open(path: str) -> int:
    """Open for writing, which locks on NFS need, or else for reading."""
    try:
        return os.open(path, os.O_RDWR | _OPEN)
    except PermissionError:
        return os.open(path, os.O_RDONLY | _OPEN)


@lru_cache(maxsize=1000)
def _say_that_it_stays(path: str, reason: str) -> None:
    logger.warning(
        "%s stays (%s): a temporary file of a process that was killed, or of another user's; remove it if none writes here.",
        path,
        reason,
    )


@lru_cache(maxsize=1)
def _machine() -> str:
    """8 hex digits for this machine since it was started; containers share them, as they share locks."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            identity = file.read()
    except OSError:
        identity = f"{uuid.getnode()}"
    return hashlib.sha256(identity.encode()).hexdigest()[:8]
