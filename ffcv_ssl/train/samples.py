"""What a training and its evaluation ask of a file's samples: their labels, and some of them at random."""

from collections.abc import Iterable

import numpy as np

from ffcv_ssl.beton.reader import BetonReader
from ffcv_ssl.errors import ConfigError
from ffcv_ssl.fields import IntField
from ffcv_ssl.reader import Reader


def read_labels(source: str | BetonReader, label: str) -> np.ndarray:
    """Return the (N,) int64 labels of a file.

    Parameters
    ----------
    source
        The file's path, or a reader that has it open.
    label
        Name of the field.

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
            f"data.label: labels are integers, and field '{label}' of {source.path} is a {kind}. "
            "Give another field, or write the labels into an IntField."
        )
    if source.num_samples == 0:
        raise ConfigError(f"{source.path}: the file holds no samples.")
    return np.asarray(source.records[label]).astype(np.int64)


def random_samples(source: str | int, count: int, seed: int = 0) -> np.ndarray:
    """Return the positions of `count` random samples, or all, sorted; of one seed the larger choices hold the smaller ones.

    Parameters
    ----------
    source
        The file's path, or the number of samples.
    count
        How many, >= 0.
    seed
        >= 0.
    """
    return np.sort(np.random.default_rng(seed).permutation(num_samples(source) if isinstance(source, str) else source)[:count])


def num_samples(path: str) -> int:
    """Number of samples of a file."""
    with Reader(path) as reader:
        return reader.num_samples


def missing_labels(where: str, label: str, fields: Iterable[str]) -> ConfigError:
    """The error of a file without the labels that evaluation, probes, fine-tuning or supervised training need."""
    return ConfigError(
        f"data.label: {where} has no field '{label}'. Evaluation, probes, fine-tuning and supervised training need labels: "
        f"give data.label, or leave data.val empty. Fields: {', '.join(fields)}."
    )
