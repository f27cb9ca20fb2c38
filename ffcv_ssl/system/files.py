"""Positioned reads and writes that transfer all requested bytes or raise."""

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

_FLUSH_SECONDS = 0.1  # interval between two flushes of a growing file


def absolute(path: str | bytes | os.PathLike[str]) -> str:
    """Return an absolute path, so that a later change of the working directory has no effect.

    Parameters
    ----------
    path
        Path of a file or folder. `~` is expanded; `..` and symbolic links are not resolved.

    Raises
    ------
    ConfigError
        If the path is not a local path.
    """
    return str(Path(local_path(path)).absolute())


def open_for_reading(path: str) -> int:
    """Open a regular file for positioned reads.

    Parameters
    ----------
    path
        Path of the file.

    Returns
    -------
    int
        File descriptor, which the caller closes.

    Raises
    ------
    NotABetonFile
        If the path is a folder, a pipe, a device or a broken symbolic link.
    OSError
        If the file cannot be opened, or the platform has no `preadv`.
    """
    if not hasattr(os, "preadv"):
        raise OSError(
            f"{path}: reading .beton files requires preadv, which {sys.platform} does not provide; "
            "use Linux, macOS or WSL."
        )
    if os.path.islink(path) and not os.path.exists(path):
        raise NotABetonFile(f"{path}: broken symbolic link to {os.readlink(path)}.")
    # Without O_NONBLOCK, opening a pipe would wait for a writer.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise NotABetonFile(f"{path}: not a regular file.")
    return descriptor


def read_exactly(descriptor: int, offset: int, buffer: memoryview, path: str) -> None:
    """Fill a buffer with bytes from a file offset.

    Parameters
    ----------
    descriptor
        Descriptor of a file that is open for reading.
    offset
        File offset of the first byte, >= 0.
    buffer
        Writable bytes; all of them are overwritten.
    path
        Path of the file, for error messages.

    Raises
    ------
    TruncatedFile
        If the file ends before the buffer is full.
    OSError
        If the operating system cannot read the bytes.
    """
    position = 0
    while position < len(buffer):
        try:
            count = os.preadv(descriptor, [buffer[position:]], offset + position)
        except OSError as error:
            message = f"{error.strerror} at offset {offset + position}"
            raise OSError(error.errno, message, path) from error
        if count == 0:
            raise TruncatedFile(
                f"{path}: the file ends at offset {offset + position}, "
                f"{len(buffer) - position} bytes too early."
            )
        position += count


def write_exactly(descriptor: int, offset: int, buffer: bytes | bytearray | memoryview) -> None:
    """Write all bytes of a buffer at a file offset.

    Parameters
    ----------
    descriptor
        Descriptor of a file that is open for writing.
    offset
        File offset of the first byte, >= 0.
    buffer
        C-contiguous bytes.

    Raises
    ------
    OSError
        If the bytes cannot be written, for instance because the disk is full.
    """
    view = memoryview(buffer).cast("B")
    position = 0
    while position < len(view):
        position += os.pwrite(descriptor, view[position:], offset + position)


@contextmanager
def flushing(descriptor: int) -> Iterator[None]:
    """Flush a growing file to disk in a background thread while the block runs.

    A final `fsync` after the block then has little left to do.

    Parameters
    ----------
    descriptor
        Descriptor of a file that is open for writing.

    Raises
    ------
    OSError
        At the end of the block, if a flush failed. The operating system reports such an error only
        once, so a later `fsync` would miss it.
    """
    ended = threading.Event()
    errors: list[OSError] = []
    flush = getattr(os, "fdatasync", os.fsync)

    def flush_repeatedly() -> None:
        try:
            while not ended.wait(_FLUSH_SECONDS):
                flush(descriptor)
        except OSError as error:
            errors.append(error)

    thread = threading.Thread(target=flush_repeatedly, name="beton-flush", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
    if errors:
        raise errors[0]
