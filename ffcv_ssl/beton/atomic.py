"""A file appears whole or not at all, also when the program is told to end."""

from __future__ import annotations

import errno
import os
import secrets
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType


def resolve_target(path: str | os.PathLike) -> str:
    """The absolute path that a new file will take, links followed; OSError if nothing can be put there."""
    target = os.path.realpath(os.fspath(path))
    folder = os.path.dirname(target)
    if not os.path.isdir(folder):
        raise FileNotFoundError(errno.ENOENT, "the folder to write to does not exist", folder)
    if os.path.exists(target) and not os.path.isfile(target):
        raise OSError(errno.EISDIR, "there is something else than a file at this path", target)
    return target


@contextmanager
def replacing(target: str) -> Iterator[int]:
    """Give the descriptor of a new file beside `target`; put it in the target's place when the block ends, remove it if that fails."""
    folder = os.path.dirname(target)
    temporary = os.path.join(folder, f".{secrets.token_hex(8)}.beton.tmp")
    descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        try:
            yield descriptor
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(temporary, target)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    _sync_folder(folder)


@contextmanager
def unwinding_on_sigterm() -> Iterator[None]:
    """Turn SIGTERM, where it would just end the process, into SystemExit(143), so that `finally` blocks run."""
    in_main_thread = threading.current_thread() is threading.main_thread()
    if not in_main_thread or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return

    def leave(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _sync_folder(folder: str) -> None:
    """Make the renaming itself survive a power cut, where the file system can."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network file systems refuse to sync folders
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
