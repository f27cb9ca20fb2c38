"""Memory limits of classifiers: block sizes for large tables, and a check before training."""

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from ffcv_ssl.errors import ConfigError

FLOAT_BYTES = 4
BLOCK_BYTES = 2**28  # limit of a temporary table: 1,024 queries x 65,536 similarities
CLASSIFIER_BYTES = 2**32  # limit of a classifier in training: 128,000 classes on 2,048 features
TENSORS_PER_WEIGHT = 4  # the weight, its gradient and Adam's two moments
TENSORS_PER_LOGIT = 3  # the logits of a batch, their softmax and its gradient


def rows_per_block(row_bytes: int, most: int | None = None) -> int:
    """Return how many rows fit into a block of `BLOCK_BYTES`.

    Parameters
    ----------
    row_bytes
        Size of one row in bytes.
    most
        Maximum number of rows; None for no maximum.

    Returns
    -------
    Number of rows, at least 1 and at most `most`.
    """
    rows = max(1, BLOCK_BYTES // max(1, row_bytes))
    return rows if most is None else min(rows, most)


def predicted_classes(logits: Callable[[Tensor], Tensor], inputs: Tensor, width: int) -> Tensor:
    """Return the class with the highest logit for each input, computed in blocks of rows.

    Parameters
    ----------
    logits
        Function that maps (n, ...) inputs to (n, C) logits.
    inputs
        (N, ...).
    width
        Maximum number of values that `logits` holds per row: C or the width of its hidden layer.

    Returns
    -------
    (N,) int64, 0 to C - 1.
    """
    blocks = torch.split(inputs, rows_per_block(FLOAT_BYTES * width))
    return torch.cat([logits(block).argmax(dim=1) for block in blocks])


def num_weights(sizes: Sequence[int]) -> int:
    """Return the number of weights and biases of a classifier.

    Parameters
    ----------
    sizes
        Number of inputs, of units of each hidden layer (if any) and of classes.
    """
    return sum((num_in + 1) * num_out for num_in, num_out in pairwise(sizes))


def classifier_bytes(batch_size: int, *classifiers: Sequence[int]) -> int:
    """Return an upper bound of the memory for training classifiers, without their inputs.

    Parameters
    ----------
    batch_size
        Number of samples per step. The classifiers process them one after the other.
    classifiers
        Sizes of each classifier; see `num_weights`.

    Returns
    -------
    Bytes.
    """
    weights = sum(map(num_weights, classifiers))
    logits = batch_size * max(max(sizes[1:]) for sizes in classifiers)
    return FLOAT_BYTES * (TENSORS_PER_WEIGHT * weights + TENSORS_PER_LOGIT * logits)


def check_memory(name: str, needed: int, num_classes: int, remedy: str) -> None:
    """Raise an error if a classifier needs more memory than `CLASSIFIER_BYTES`.

    Parameters
    ----------
    name
        Name of the classifier in the message, with an article.
    needed
        Memory in bytes; see `classifier_bytes`.
    num_classes
        Number of classes.
    remedy
        Last sentence of the message, which tells the user what to do.

    Raises
    ------
    ConfigError
        If `needed` exceeds `CLASSIFIER_BYTES`.
    """
    if needed > CLASSIFIER_BYTES:
        raise ConfigError(
            f"{name} for {num_classes:,} classes would take {needed / 1e9:.1f} GB of memory, more "
            f"than the {CLASSIFIER_BYTES / 1e9:.1f} GB allowed. Are the labels ids rather than "
            f"classes? {remedy}"
        )
