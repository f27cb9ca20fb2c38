"""Folder of the kernel cache, and the log message for slow compilations."""

import contextlib
import functools
import hashlib
import logging
import os
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numba
from filelock import FileLock

from ffcv_ssl import __version__

logger = logging.getLogger("ffcv_ssl")

PACKAGE = Path(__file__).resolve().parents[1]
COMPILED_FILES = (  # every file that contains compiled code
    "kernels/**/*.py",
    "codecs/_call.py",
    "codecs/entropy.py",
    "codecs/slices.py",
    "loader/render/chunk.py",
)
ANNOUNCE_AFTER_S = 1.0  # a compilation that takes longer is logged
COMPILING_S = "10 to 20"  # time to compile the largest kernel on one core
_compiling: list[str] = []  # kernels, outermost first; guarded by the compiler's lock


@contextlib.contextmanager
def announce_compilation(function: Callable[..., Any]) -> Iterator[None]:
    """Log that a kernel is being compiled, once that has taken a second.

    Kernels that the kernel calls, and that are compiled with it, are not logged.
    """
    name = f"{function.__module__}.{function.__qualname__}"
    message = "compiling %s; this happens once per machine and takes %s seconds."
    # A warning, because Python shows warnings even when logging is not configured.
    timer = threading.Timer(ANNOUNCE_AFTER_S, logger.warning, (message, name, COMPILING_S))
    timer.daemon = True
    if not _compiling:
        timer.start()
    _compiling.append(name)
    try:
        yield
    finally:
        _compiling.pop()
        timer.cancel()


@functools.lru_cache(maxsize=1)
def source_hash() -> str:
    """Return a hash of all files with compiled code, the package version and Numba's version."""
    digest = hashlib.sha256(f"{__version__} {numba.__version__}".encode())
    for path in sorted(path for pattern in COMPILED_FILES for path in PACKAGE.glob(pattern)):
        digest.update(path.relative_to(PACKAGE).as_posix().encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:24]


@functools.lru_cache(maxsize=1)
def cache_folder() -> Path | None:
    """Return a writable folder for compiled kernels; None, with one warning, if there is none.

    The environment variable `FFCV_SSL_CACHE_DIR` selects the folder. The default is `ffcv_ssl` in
    the user's cache folder.
    """
    root = os.environ.get("FFCV_SSL_CACHE_DIR") or os.path.join(
        os.environ.get("XDG_CACHE_HOME") or "~/.cache", "ffcv_ssl"
    )
    folder = Path(root) / "kernels" / source_hash()
    try:
        folder = folder.expanduser()  # raises RuntimeError without a home folder
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder), warnings.catch_warnings():
            warnings.simplefilter("error")  # filelock warns if the file system has no locks
            with FileLock(folder / "lock"):
                return folder
    except (OSError, RuntimeError, UserWarning) as error:
        logger.warning(
            "compiled kernels are not cached: cannot write and lock files in %s (%s); "
            "set FFCV_SSL_CACHE_DIR to a writable folder.",
            folder,
            error,
        )
        return None
