"""Labels of a file and random subsets of its samples."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from ffcv_ssl.beton.reader import BetonReader
from ffcv_ssl.errors import ConfigError
from ffcv_ssl.fields import IntField
from ffcv_ssl.reader import Reader


def read_labels(source: str | BetonReader, label: str) -> NDArray[np.int64]:
    """Return the labels of a file.

    Parameters
    ----------
    source
        Path of the file, or an open reader.
    label
        Name of the label field.

    Returns
    -------
    NDArray[np.int64]
        (N,), one label per sample.

    Raises
    ------
    ConfigError
        If the file has no samples or no such field, or the field does not hold integers.
    """
    if isinstance(source, str):
        with Reader(source) as reader:
            return read_labels(reader, label)
    if label not in source.fields:
        raise missing_labels(source.path, label, source.fields)
    if not isinstance(source.fields[label], IntField):
        kind = type(source.fields[label]).__name__
        raise ConfigError(
            f"data.label: labels must be integers, but field '{label}' of {source.path} is a "
            f"{kind}. Give another field, or write the labels into an IntField."
        )
    if source.num_samples == 0:
        raise ConfigError(f"{source.path}: the file holds no samples.")
    return np.asarray(source.records[label]).astype(np.int64)


def random_samples(source: str | int, count: int, seed: int = 0) -> NDArray[np.int64]:
    """Return the positions of random samples, sorted.

    For a given seed, a larger subset contains every smaller one.

    Parameters
    ----------
    source
        Path of a file, or the number of samples.
    count
        Number of samples to select, >= 0. All samples are returned if there are fewer.
    seed
        Random seed, >= 0.

    Returns
    -------
    NDArray[np.int64]
        Positions, ascending.

    Examples
    --------
    >>> random_samples(1_000, 3)
    array([206, 222, 459])

    """
    total = num_samples(source) if isinstance(source, str) else source
    return np.sort(np.random.default_rng(seed).permutation(total)[:count])


def num_samples(path: str) -> int:
    """Return the number of samples of a file."""
    with Reader(path) as reader:
        return reader.num_samples


def missing_labels(where: str, label: str, fields: Iterable[str]) -> ConfigError:
    """Return the error for a file that lacks the label field."""
    return ConfigError(
        f"data.label: {where} has no field '{label}'. Evaluation, probes, fine-tuning and "
        "supervised training need labels: give data.label, or leave data.val empty. "
        f"Fields: {', '.join(fields)}."
    )
