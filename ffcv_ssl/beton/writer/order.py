"""Order of the samples in the file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ffcv_ssl.errors import ConfigError, WriteError
from ffcv_ssl.fields.hashing import index_hash


def file_order(
    path: str,
    dataset: Any,
    indices: Sequence[int] | NDArray[np.integer] | None,
    shuffle_seed: int | None,
) -> NDArray[np.int64]:
    """Return the indices of a dataset in the order of the file.

    Parameters
    ----------
    path
        Path of the file, for error messages.
    dataset
        Object that defines `__len__`, unless `indices` are given.
    indices
        (N,) indices to write, in this order; None for all.
    shuffle_seed
        Seed of the order, 0 to 2**64 - 1; None keeps the order.

    Returns
    -------
    numpy.ndarray
        (N,) int64.

    Raises
    ------
    ConfigError
        If `indices` are not integers or lie outside the dataset.
    WriteError
        If there are no samples, or the length of the dataset is unknown.
    """
    length = len(dataset) if hasattr(dataset, "__len__") else None
    if indices is None:
        if length is None:
            raise WriteError(
                f"{path}: the dataset ({type(dataset).__name__}) has no len(); "
                "pass the indices to write."
            )
        order = np.arange(length)
    else:
        order = np.array(indices)
        if order.ndim != 1 or (order.dtype.kind not in "iu" and order.size):
            raise ConfigError(
                "indices must be a sequence of integers, got an array of "
                f"{order.dtype} and shape {order.shape}."
            )
    if order.size == 0:
        raise WriteError(f"{path}: there are no samples to write.")
    highest = np.iinfo(np.int64).max if length is None else length - 1
    if order.min() < 0 or order.max() > highest:
        raise ConfigError(f"indices must be in 0 to {highest}, got {order.min()} to {order.max()}.")
    order = order.astype(np.int64)
    if shuffle_seed is None:
        return order
    return order[np.argsort(index_hash(shuffle_seed, np.arange(len(order))))]
