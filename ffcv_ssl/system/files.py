"""Positioned reads and writes that are never short; what the operating system refuses is an OSError that names the file."""

from __future__ import annotations

import os
import stat
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ffcv_ssl.errors import NotABetonFile, TruncatedFile
from ffcv_ssl.system.paths import local_path

_FLUSH_SECONDS = 0.1  # between two flushes of a growing file


def absolute(path: str | os.PathLike) -> str:
    """Return a path that a change of the working directory does not change.

    `~` is expanded; `..` stays, as what it means depends on links. ConfigError where it names nothing on this machine.
    """
    return str(Path(local_path(path)).absolute())


def open_for_reading(path: str) -> int:
    """Open a regular file and return its descriptor; NotABetonFile for folders, pipes, devices and dangling links."""
    if not hasattr(os, "preadv"):
        raise OSError(
            f"{path}: .beton files are read with preadv, which {sys.platform} does not have; use Linux, macOS or WSL."
        )
    if os.path.islink(path) and not os.path.exists(path):
        raise NotABetonFile(f"{path}: a link to {os.readlink(path)}, which does not exist.")
    descriptor = os.open(
        path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
    )  # opening a pipe without O_NONBLOCK would wait for a writer
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise NotABetonFile(f"{path}: not a regular file.")
    return descriptor


def read_exactly(descriptor: int, offset: int, buffer: memoryview, path: str) -> None:
    """Fill `buffer` (bytes, writable) from a file offset; TruncatedFile if the file ends before, OSError if it cannot be read."""
    position = 0
    while position < len(buffer):
        try:
            count = os.preadv(descriptor, [buffer[position:]], offset + position)
        except OSError as error:
            raise OSError(
                error.errno, f"{error.strerror} at offset {offset + position}", path
            ) from error
        if count == 0:
            raise TruncatedFile(
                f"{path}: ended at offset {offset + position}; {len(buffer) - position} more bytes were wanted."
            )
        position += count


def write_exactly(descriptor: int, offset: int, buffer: bytes | bytearray | memoryview) -> None:
    """Write all of `buffer` at a file offset; OSError if the disk does not take it."""
    view = memoryview(buffer).cast("B")
    position = 0
    while position < len(view):
        position += os.pwrite(descriptor, view[position:], offset + position)


@contextmanager
def flushing(descriptor: int) -> Iterator[None]:
    """Bring a growing file to the disk while the block runs, so that an `fsync` after it has little left to do.

    Raises
    ------
    OSError
        At the end of the block, if the disk refused bytes: the operating system reports that once only.
    """
    ended = threading.Event()
    refusals: list[OSError] = []
    flush = getattr(os, "fdatasync", os.fsync)

    def run() -> None:
        try:
            while not ended.wait(_FLUSH_SECONDS):
                flush(descriptor)
        except OSError as error:
            refusals.append(error)

    thread = threading.Thread(target=run, name="beton-flush", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
    if refusals:
        raise refusals[0]
