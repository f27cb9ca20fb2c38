"""Disk cache for compiled kernels, with locks and checksums.

It builds on Numba's private cache classes.

Numba's own cache has two faults. It stamps only the file that defines a function, so a kernel keeps
its old machine code after a function inlined into it was edited. And two processes that compile two
dtypes of one kernel at the same time may write both to the same file.

This is the only module that uses private names of Numba. `ffcv_ssl.kernels._jit` imports it only
for Numba versions with which it was tested.
"""

# mypy: disable-error-code="no-untyped-call"
# Numba's classes have no annotations.

import contextlib
import functools
import hashlib
import logging
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import filelock
from filelock import FileLock
from numba.core import sigutils
from numba.core.caching import (
    CompileResultCacheImpl,
    FunctionCache,
    IndexDataCacheFile,
    NullCache,
    _CacheLocator,
)
from numba.core.compiler_lock import global_compiler_lock

from ffcv_ssl.kernels._cache_folder import announce_compilation, cache_folder, source_hash

logger = logging.getLogger("ffcv_ssl")

DIGEST_BYTES = 32  # SHA-256
LOCK_TIMEOUT_S = 300.0  # a process that compiles a kernel for longer is presumed stopped


def use_cache(dispatcher: Any, function: Callable[..., Any]) -> None:
    """Attach the disk cache to a dispatcher; processes compile each kernel one at a time."""
    dispatcher._cache = KernelCache(function) if cache_folder() is not None else NoCache(function)
    dispatcher.compile = functools.partial(compile_in_turn, dispatcher, dispatcher.compile)


def compile_in_turn(dispatcher: Any, compile_: Callable[[Any], Any], signature: Any) -> Any:
    """Compile or load one overload of a kernel; wait if another process is compiling it.

    This cannot deadlock. A kernel waits only for kernels that it calls, and no kernel calls itself.
    The compiler's lock is acquired first, so two threads cannot each hold a lock that the other
    needs.
    """
    with global_compiler_lock, contextlib.ExitStack() as scope:
        if sigutils.normalize_signature(signature)[0] not in dispatcher.overloads:
            dispatcher._cache.prepare(signature, dispatcher.targetctx, scope)
        return compile_(signature)


class _SourceHashLocator(_CacheLocator):
    """Locate a function's machine code in the folder named by the hash of all compiled sources."""

    def __init__(self, py_func: Callable[..., Any]) -> None:
        self._py_func = py_func

    def get_cache_path(self) -> str:
        return str(cache_folder())

    def get_source_stamp(self) -> str:
        return source_hash()

    def get_disambiguator(self) -> str:
        return self._py_func.__module__.rpartition(".")[2]

    @classmethod
    def from_function(cls, py_func: Callable[..., Any], py_file: str) -> "_SourceHashLocator":
        return cls(py_func)


class _KernelCacheImpl(CompileResultCacheImpl):
    _locator_classes = (_SourceHashLocator,)  # type: ignore[assignment]  # Numba declares a list


DAMAGE = (
    EOFError,
    pickle.UnpicklingError,
    AttributeError,
    ImportError,
    IndexError,
    KeyError,
    ValueError,
)


class _CheckedFile(IndexDataCacheFile):
    """Numba's cache files with a digest at the end, so that damaged machine code is never run."""

    def _dump(self, obj: Any) -> bytes:
        data: bytes = super()._dump(obj)
        return data + hashlib.sha256(data).digest()

    def _load_data(self, name: str) -> Any:
        return pickle.loads(self._checked(Path(self._data_path(name)).read_bytes()))

    def _load_index(self) -> Any:
        if os.path.exists(self._index_path):
            data = Path(self._index_path).read_bytes()
            version = pickle.dumps(self._version, protocol=-1)  # Numba writes it first
            if not data.startswith(version):
                raise ValueError("the index does not start with the expected version")
            self._checked(data[len(version) :])
        return super()._load_index()

    def load(self, key: Any) -> Any:
        """Load one entry; None if there is none.

        Numba's method also returns None for a data file that exists but cannot be read.
        """
        name = self._load_index().get(key)
        with contextlib.suppress(FileNotFoundError):
            return None if name is None else self._load_data(name)

    def _checked(self, data: bytes) -> bytes:
        if hashlib.sha256(data[:-DIGEST_BYTES]).digest() != data[-DIGEST_BYTES:]:
            raise ValueError("checksum mismatch")
        return data


_reported: set[str] = set()  # unusable folders that were logged


def warn_unusable(folder: str, error: Exception) -> None:
    """Log, once per process and folder, that kernels cannot be loaded from or saved to it."""
    if folder not in _reported:
        _reported.add(folder)
        reason = str(error)
        if isinstance(error, OSError) and error.filename:
            reason = f"{error.filename}: {error.strerror}"
        logger.warning(
            "cannot read or write some compiled kernels in %s (%s); every process compiles them "
            "again. Repair the folder or set FFCV_SSL_CACHE_DIR.",
            folder,
            reason,
        )


class KernelCache(FunctionCache):
    """Numba's function cache with a lock around each load and each save."""

    _impl_class = _KernelCacheImpl

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        self._cache_file = _CheckedFile(self._cache_path, self._impl.filename_base, source_hash())

    def _lock(self) -> FileLock:
        return FileLock(os.path.join(self.cache_path, "lock"))

    def prepare(self, sig: Any, target_context: Any, scope: contextlib.ExitStack) -> None:
        """Acquire the right to compile `sig` if it is not cached; `scope` releases it.

        Processes that need the same kernel wait and then load it. With an empty cache, four
        processes on two cores take 22 s to their first batch; without waiting they take 48 s.
        """
        if self._has_entry(sig, target_context):
            return
        name = hashlib.sha256(f"{self._impl.filename_base} {sig}".encode()).hexdigest()[:16]
        # After a timeout (stopped process) or an error (full disk) several processes compile and
        # save one after the other.
        with contextlib.suppress(filelock.Timeout, OSError):
            lock = FileLock(os.path.join(self.cache_path, f"{name}.turn"), timeout=LOCK_TIMEOUT_S)
            scope.enter_context(lock)
        if not self._has_entry(sig, target_context):
            scope.enter_context(announce_compilation(self._py_func))

    def _has_entry(self, sig: Any, target_context: Any) -> bool:
        """Return whether the index lists `sig`; the entry itself may still be damaged."""
        target_context.refresh()
        try:
            with self._lock():
                key = self._index_key(sig, target_context.codegen())
                return key in self._cache_file._load_index()
        except (OSError, *DAMAGE):  # reported when the entry is loaded
            return False

    def _load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            with self._lock():
                try:
                    found = super()._load_overload(sig, target_context)
                    expected = sigutils.normalize_signature(sig)[0]
                    if found is not None and tuple(found.signature.args) != expected:
                        raise ValueError(f"found {found.signature}, expected {sig}")
                    return found
                except DAMAGE as error:
                    logger.warning(
                        "compiled kernels in %s are damaged (%s); compiling %s again.",
                        self.cache_path,
                        error,
                        self._name,
                    )
                    self.flush()
        except OSError as error:
            warn_unusable(self.cache_path, error)
        return None

    def _save_overload(self, sig: Any, data: Any) -> None:
        try:
            with self._lock():
                # Files of a killed process: nobody else writes while this process holds the lock.
                for leftover in Path(self.cache_path).glob("*.tmp.*"):
                    leftover.unlink()
                super()._save_overload(sig, data)
        except (OSError, *DAMAGE) as error:  # the next process compiles again, nothing worse
            warn_unusable(self.cache_path, error)


class NoCache(NullCache):
    """A cache that stores nothing, for machines without a writable cache folder."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def prepare(self, sig: Any, target_context: Any, scope: contextlib.ExitStack) -> None:
        """Announce the compilation."""
        scope.enter_context(announce_compilation(self._function))
