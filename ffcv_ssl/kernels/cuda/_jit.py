"""Typed decorators for CUDA code."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

from numba import cuda as _cuda

F = TypeVar("F", bound=Callable[..., Any])

cuda: Any = _cuda  # type checkers do not find names such as threadIdx, which Numba defines late


def device_function(function: F) -> F:
    """Compile a function that CUDA kernels call."""
    return cast(F, cuda.jit(device=True)(function))


def cuda_kernel(function: Callable[..., Any]) -> Any:
    """Compile a kernel; launch it with `kernel[grid, block, stream, shared_bytes](…)`."""
    return cuda.jit(function)
