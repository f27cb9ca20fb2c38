"""Compile kernels: the only place with jit options, and the package's own locked kernel cache."""

import functools
import hashlib
import logging
import os
import pickle
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import numba
from filelock import FileLock
from numba import njit
from numba.core import config
from numba.core.caching import CompileResultCacheImpl, FunctionCache, NullCache, _CacheLocator

from ffcv_ssl import __version__

logger = logging.getLogger("ffcv_ssl")

PACKAGE = Path(__file__).resolve().parents[1]
COMPILED_FILES = ("kernels/**/*.py", "codecs/_call.py", "codecs/slices.py", "loader/chunk.py")  # every file that holds compiled code

# Inlined always: without it a returned tuple stops the vectoriser.
scalar = njit(error_model="numpy", forceinline=True)


def per_sample(function: Callable) -> Callable:
    """Compile a kernel that runs one chunk of samples in the calling thread, without the GIL; cached on disk."""
    dispatcher = njit(nogil=True, error_model="numpy")(function)
    if not config.DISABLE_JIT:  # type: ignore[attr-defined]
        dispatcher._cache = kernel_cache(function)  # type: ignore[attr-defined]
    return dispatcher


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
    root = os.environ.get("FFCV_SSL_CACHE_DIR") or os.path.join(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "ffcv_ssl")
    folder = Path(root).expanduser() / "kernels" / source_hash()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder), warnings.catch_warnings():
            warnings.simplefilter("error")  # filelock warns where the file system has no locks
            with FileLock(folder / "lock"):
                return folder
    except (OSError, NotImplementedError, UserWarning) as error:
        logger.warning("compiled kernels are not kept: %s cannot be written and locked (%s); set FFCV_SSL_CACHE_DIR.", folder, error)
        return None


class _SourceHashLocator(_CacheLocator):
    """Keep a function's machine code in the folder named by the hash of all compiled sources."""

    def __init__(self, py_func):
        self._py_func = py_func

    def get_cache_path(self):
        return str(cache_folder())

    def get_source_stamp(self):
        return source_hash()

    def get_disambiguator(self):
        return self._py_func.__module__.rpartition(".")[2]

    @classmethod
    def from_function(cls, py_func, py_file):
        return cls(py_func)


class _KernelCacheImpl(CompileResultCacheImpl):
    _locator_classes = (_SourceHashLocator,)  # type: ignore[assignment]


class KernelCache(FunctionCache):
    """Numba's function cache with a lock around each load and each save.

    Without the lock two processes that compile two dtypes of one kernel at once may give both the same file.
    """

    _impl_class = _KernelCacheImpl

    def _lock(self) -> FileLock:
        return FileLock(os.path.join(self.cache_path, "lock"))

    def _load_overload(self, sig, target_context):
        with self._lock():
            try:
                return super()._load_overload(sig, target_context)
            except (EOFError, pickle.UnpicklingError, AttributeError, ImportError, IndexError, KeyError, ValueError) as error:
                logger.warning("compiled kernels in %s are damaged (%s); compiling %s anew.", self.cache_path, error, self._name)
                self.flush()
                return None

    def _save_overload(self, sig, data):
        try:
            with self._lock():
                super()._save_overload(sig, data)
        except OSError as error:  # a full disk costs the next process a compilation, no more
            logger.warning("compiled kernels are not kept in %s: %s.", self.cache_path, error)


def kernel_cache(function: Callable) -> KernelCache | NullCache:
    """Return the disk cache of one kernel, or one that keeps nothing where no folder is writable."""
    return KernelCache(function) if cache_folder() is not None else NullCache()
