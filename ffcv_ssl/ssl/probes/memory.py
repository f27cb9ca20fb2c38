"""How much memory classifiers may take: tables come in blocks, and what cannot is refused early."""

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from ffcv_ssl.errors import ConfigError

FLOAT_BYTES = 4
BLOCK_BYTES = 2**28  # of a temporary table: 1,024 queries x 65,536 similarities
CLASSIFIER_BYTES = 2**32  # of a classifier in training: 128,000 classes on 2,048 features
STATES = 4  # a weight, its gradient and Adam's two moments
LOGITS = 3  # tables of the size of a batch's logits: they, their softmax and its gradient


def rows_per_block(row_bytes: int, most: int | None = None) -> int:
    """How many rows of so many bytes make a block, at least one and at most `most`."""
    rows = max(1, BLOCK_BYTES // max(1, row_bytes))
    return rows if most is None else min(rows, most)


def predicted_classes(logits: Callable[[Tensor], Tensor], inputs: Tensor, width: int) -> Tensor:
    """Return the (N,) int64 class with the highest logit, computed in blocks of rows.

    Parameters
    ----------
    logits
        Maps (n, …) to (n, C).
    inputs
        (N, …).
    width
        The most values that `logits` holds of one row: C, or the width of its hidden layer.
    """
    blocks = inputs.split(rows_per_block(FLOAT_BYTES * width))
    return torch.cat([logits(block).argmax(dim=1) for block in blocks])


def num_weights(sizes: Sequence[int]) -> int:
    """Weights and biases of a classifier of so many inputs, hidden units (if any) and classes."""
    return sum((num_in + 1) * num_out for num_in, num_out in pairwise(sizes))


def classifier_bytes(batch_size: int, *classifiers: Sequence[int]) -> int:
    """Memory that the training of classifiers side by side takes at most, without their inputs.

    Parameters
    ----------
    batch_size
        Samples per step; the classifiers take it one after the other.
    classifiers
        The sizes of each, see `num_weights`.
    """
    weights = sum(map(num_weights, classifiers))
    return FLOAT_BYTES * (STATES * weights + LOGITS * batch_size * max(max(sizes[1:]) for sizes in classifiers))


def check_memory(what: str, needed: int, num_classes: int, remedy: str) -> None:
    """Refuse a classifier that takes more than `CLASSIFIER_BYTES`.

    Parameters
    ----------
    what
        Its name in the message, with an article.
    needed
        Bytes; see `classifier_bytes`.
    num_classes
        Number of its classes.
    remedy
        The sentence that says what to do.

    Raises
    ------
    ConfigError
        If it takes too much.
    """
    if needed > CLASSIFIER_BYTES:
        size = f"{needed / 1e9:.1f} GB of memory, more than the {CLASSIFIER_BYTES / 1e9:.1f} GB allowed"
        raise ConfigError(f"{what} for {num_classes:,} classes would take {size}. Are the labels ids rather than classes? {remedy}")
