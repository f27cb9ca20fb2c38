"""Compile kernels: the only place with jit options."""

import logging
from collections.abc import Callable

import numba
from numba import config, njit

logger = logging.getLogger("ffcv_ssl")

TESTED_NUMBA = (0, 60), (0, 69)  # the first, and the first that is not tested

# Inlined always: without it a returned tuple stops the vectoriser.
scalar = njit(error_model="numpy", forceinline=True)
# For functions that only call others: they become part of their caller, because LLVM optimises a called function anew at every level of
# nesting (a cold start takes 14 s instead of 26, measured on busy cores).
glue = njit(error_model="numpy", inline="always")


def per_sample(function: Callable) -> Callable:
    """Compile a kernel that runs one chunk of samples in the calling thread, without the GIL; cached on disk."""
    dispatcher = njit(nogil=True, error_model="numpy")(function)
    if not config.DISABLE_JIT and use_cache is not None:  # type: ignore[attr-defined]
        use_cache(dispatcher, function)
    return dispatcher


def _find_cache() -> Callable | None:
    """Return what gives a kernel its cache; None, said once, for a Numba whose private names may be others."""
    version = tuple(int(part) for part in numba.__version__.split(".")[:2])
    first, last = ((".".join(map(str, each))) for each in TESTED_NUMBA)
    try:
        if not TESTED_NUMBA[0] <= version < TESTED_NUMBA[1]:
            raise ImportError(f"tested with {first} and later versions before {last}")
        from ffcv_ssl.kernels._cache import use_cache
    except ImportError as error:
        logger.warning(
            "Numba %s: compiled kernels are not kept, each process compiles them anew (%s).",
            numba.__version__,
            error,
        )
        return None
    return use_cache


use_cache = _find_cache()
