"""Where compiled kernels are kept, and what is said while one is compiled."""

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

import numba
from filelock import FileLock

from ffcv_ssl import __version__

logger = logging.getLogger("ffcv_ssl")

PACKAGE = Path(__file__).resolve().parents[1]
COMPILED_FILES = (
    "kernels/**/*.py",
    "codecs/_call.py",
    "codecs/slices.py",
    "loader/render/chunk.py",
)  # all that hold compiled code
PATIENCE_S = 1.0  # before a compilation is announced
COMPILING_S = "10 to 20"  # what the largest kernel takes on one core
_compiling: list[str] = []  # kernels, outermost first; guarded by the compiler's lock


@contextlib.contextmanager
def announced(function: Callable) -> Iterator[None]:
    """Say that a kernel is being compiled, once it has taken a second; not of the kernels that it calls."""
    name = f"{function.__module__}.{function.__qualname__}"
    message = "compiling %s: once per machine, it takes %s seconds."
    timer = threading.Timer(
        PATIENCE_S, logger.warning, (message, name, COMPILING_S)
    )  # a warning is seen without configured logging
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
    """Hash of every file that holds compiled code, of the package version and of Numba's."""
    digest = hashlib.sha256(f"{__version__} {numba.__version__}".encode())
    for path in sorted(path for pattern in COMPILED_FILES for path in PACKAGE.glob(pattern)):
        digest.update(path.relative_to(PACKAGE).as_posix().encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:24]


@functools.lru_cache(maxsize=1)
def cache_folder() -> Path | None:
    """Return a writable folder for compiled kernels, or None (said once) where there is none.

    `FFCV_SSL_CACHE_DIR` names it; otherwise it is `ffcv_ssl` in the user's cache folder.
    """
    root = os.environ.get("FFCV_SSL_CACHE_DIR") or os.path.join(
        os.environ.get("XDG_CACHE_HOME") or "~/.cache", "ffcv_ssl"
    )
    folder = Path(root) / "kernels" / source_hash()
    try:
        folder = folder.expanduser()  # RuntimeError: no home
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder), warnings.catch_warnings():
            warnings.simplefilter("error")  # filelock warns where the file system has no locks
            with FileLock(folder / "lock"):
                return folder
    except (OSError, RuntimeError, UserWarning) as error:
        logger.warning(
            "compiled kernels are not kept: %s cannot be written and locked (%s); set FFCV_SSL_CACHE_DIR.",
            folder,
            error,
        )
        return None
