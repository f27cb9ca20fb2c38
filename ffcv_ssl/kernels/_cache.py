"""The kernel cache: compiled kernels on disk, locked and checked, on top of Numba's private cache classes.

Numba's own cache stamps only the file that defines a function, so an edited inlined function keeps
its old machine code; and two processes that compile two dtypes of one kernel at once may give both
the same file. This is the only module that uses private names of Numba. `ffcv_ssl.kernels._jit` does
not import it where Numba's version is not among the tested ones.
"""

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

from ffcv_ssl.kernels._cache_folder import announced, cache_folder, source_hash

logger = logging.getLogger("ffcv_ssl")

WAIT_S = 300.0  # for a process that compiles the same kernel; then it is taken to be stopped


def use_cache(dispatcher: Any, function: Callable) -> None:
    """Let a dispatcher keep its machine code in the cache, and compile in turn with other processes."""
    dispatcher._cache = KernelCache(function) if cache_folder() is not None else NoCache(function)
    dispatcher.compile = functools.partial(compile_in_turn, dispatcher, dispatcher.compile)


def compile_in_turn(dispatcher: Any, compile_: Callable, signature: Any) -> Any:
    """Compile or load one overload of a kernel; what another process is compiling is waited for, then loaded.

    No deadlock: a kernel waits only for those that it calls, and no kernel calls itself; and the compiler's lock comes first, so that
    two threads cannot hold one lock each and want the other's.
    """
    with global_compiler_lock, contextlib.ExitStack() as scope:
        if sigutils.normalize_signature(signature)[0] not in dispatcher.overloads:
            dispatcher._cache.prepare(signature, dispatcher.targetctx, scope)
        return compile_(signature)


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
    """Numba's files, each with a digest at its end, so that damaged machine code is compiled anew and never run."""

    def _dump(self, obj):
        data = super()._dump(obj)
        return data + hashlib.sha256(data).digest()

    def _load_data(self, name):
        return pickle.loads(self._checked(Path(self._data_path(name)).read_bytes()))

    def _load_index(self):
        if os.path.exists(self._index_path):
            data, version = (
                Path(self._index_path).read_bytes(),
                pickle.dumps(self._version, protocol=-1),
            )  # Numba's, in front
            if not data.startswith(version):
                raise ValueError("the index does not begin as it was written")
            self._checked(data[len(version) :])
        return super()._load_index()

    def load(self, key):
        """Numba's, which takes every data file that cannot be read for one that is missing."""
        name = self._load_index().get(key)
        with contextlib.suppress(FileNotFoundError):
            return None if name is None else self._load_data(name)

    def _checked(self, data: bytes) -> bytes:
        if hashlib.sha256(data[:-32]).digest() != data[-32:]:
            raise ValueError("a digest does not match")
        return data


_unusable: set[str] = set()  # folders of which that was said


def say_unusable(folder: str, error: Exception) -> None:
    """Say, once per process, that kernels cannot be read from a folder or kept in it: rights, a full disk, something in a file's place."""
    if folder not in _unusable:
        _unusable.add(folder)
        reason = (
            f"{error.filename}: {error.strerror}"
            if isinstance(error, OSError) and error.filename
            else error
        )
        logger.warning(
            "some compiled kernels cannot be read from or kept in %s (%s); they are compiled anew in each process. "
            "Repair the folder or set FFCV_SSL_CACHE_DIR.",
            folder,
            reason,
        )


class KernelCache(FunctionCache):
    """Numba's function cache with a lock around each load and each save.

    Without the lock two processes that compile two dtypes of one kernel at once may give both the same file.
    """

    _impl_class = _KernelCacheImpl

    def __init__(self, function: Callable):
        super().__init__(function)
        self._cache_file = _CheckedFile(self._cache_path, self._impl.filename_base, source_hash())

    def _lock(self) -> FileLock:
        return FileLock(os.path.join(self.cache_path, "lock"))

    def prepare(self, sig, target_context, scope: contextlib.ExitStack) -> None:
        """Where there is no entry yet, wait until this is the one process that compiles `sig`; it is so until `scope` ends, or it dies.

        Four processes on two cores, no kernels yet: 22 s to the first batch of each, 48 s where each compiles for itself.
        """
        if self._holds(sig, target_context):
            return
        name = hashlib.sha256(f"{self._impl.filename_base} {sig}".encode()).hexdigest()[:16]
        with contextlib.suppress(
            filelock.Timeout, OSError
        ):  # a stopped process, a full disk: then several compile, and save one by one
            scope.enter_context(
                FileLock(os.path.join(self.cache_path, f"{name}.turn"), timeout=WAIT_S)
            )
        if not self._holds(sig, target_context):
            scope.enter_context(announced(self._py_func))

    def _holds(self, sig, target_context) -> bool:
        """Whether there is an entry for `sig`, which may yet be damaged."""
        target_context.refresh()
        try:
            with self._lock():
                return (
                    self._index_key(sig, target_context.codegen()) in self._cache_file._load_index()
                )
        except (OSError, *DAMAGE):  # said when the entry is loaded
            return False

    def _load_overload(self, sig, target_context):
        try:
            with self._lock():
                try:
                    found = super()._load_overload(sig, target_context)
                    if (
                        found is not None
                        and tuple(found.signature.args) != sigutils.normalize_signature(sig)[0]
                    ):
                        raise ValueError(f"{found.signature} where {sig} should be")
                    return found
                except DAMAGE as error:
                    logger.warning(
                        "compiled kernels in %s are damaged (%s); compiling %s anew.",
                        self.cache_path,
                        error,
                        self._name,
                    )
                    self.flush()
        except OSError as error:
            say_unusable(self.cache_path, error)
        return None

    def _save_overload(self, sig, data):
        try:
            with self._lock():
                for leftover in Path(self.cache_path).glob(
                    "*.tmp.*"
                ):  # of a process that was killed: the lock is ours
                    leftover.unlink()
                super()._save_overload(sig, data)
        except (
            OSError,
            *DAMAGE,
        ) as error:  # a full disk costs the next process a compilation, no more
            say_unusable(self.cache_path, error)


class NoCache(NullCache):
    """Keeps nothing."""

    def __init__(self, function: Callable):
        self._function = function

    def prepare(self, sig, target_context, scope: contextlib.ExitStack) -> None:
        """Announce the compilation."""
        scope.enter_context(announced(self._function))
