"""Memory for batches, reused once no tensor refers to it."""

import math
import weakref
from collections import defaultdict
from typing import Any

import numpy as np
import torch
from numpy.typing import DTypeLike, NDArray


class BufferPool:
    """Pool of arrays whose memory is reused once nothing refers to them.

    Filling a batch of 77 MB takes 14 ms in reused memory and 70 ms in fresh memory.

    The pool uses no lock, because a finalizer may run at any moment in any thread. Appending to a
    list and popping from it are atomic.

    Parameters
    ----------
    max_free
        Number of unused buffers of one size that the pool keeps; it frees all others.
    """

    def __init__(self, max_free: int):
        self._max_free = max_free
        self._free: defaultdict[int, list[NDArray[np.uint8]]] = defaultdict(list)  # by bytes

    def allocate(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """Return an uninitialized array.

        Its memory returns to the pool when the array and every tensor made from it are gone.

        Parameters
        ----------
        shape, dtype
            Shape and dtype of the array.

        Returns
        -------
        numpy.ndarray
            C-contiguous array.
        """
        num_bytes = math.prod(shape) * np.dtype(dtype).itemsize
        try:
            storage = self._free[num_bytes].pop()
        except IndexError:
            storage = np.empty(num_bytes, np.uint8)
        array = storage.view(dtype).reshape(shape)
        # The base of a slice of `array` is `storage`, so a slice does not keep `array` alive. A
        # tensor made from `array` does, and the loader returns only tensors.
        weakref.finalize(array, self._recycle, storage).atexit = False
        return array

    def _recycle(self, storage: NDArray[np.uint8]) -> None:
        """Keep memory for the next array of its size, unless there is enough of it."""
        free = self._free[storage.nbytes]
        if len(free) < self._max_free:
            free.append(storage)


def as_tensor(array: NDArray[Any], dtype: torch.dtype) -> torch.Tensor:
    """Return a tensor that shares the memory of an array.

    Parameters
    ----------
    array
        C-contiguous; 16-bit floats as uint16 bit patterns.
    dtype
        Dtype of the tensor.

    Returns
    -------
    torch.Tensor
        Tensor of the array's shape.
    """
    tensor = torch.from_numpy(array)
    return tensor.view(dtype) if array.dtype == np.uint16 else tensor


def pinned_tensor(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """Allocate pinned memory from torch's allocator, which takes pending copies into account.

    Parameters
    ----------
    shape, dtype
        Shape and dtype of the tensor.

    Returns
    -------
    torch.Tensor
        Uninitialized.
    """
    return torch.empty(shape, dtype=dtype, pin_memory=True)
