"""Subsets of a file with the same fraction of each class."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ffcv_ssl.evaluate.encoding import Features


def few_labels(features: Features, fraction: float, seed: int) -> Features:
    """Return features whose training part is a `balanced_subset`."""
    if fraction == 1:
        return features
    chosen = balanced_subset(features.train_labels.cpu().numpy(), fraction, seed)
    kept = torch.from_numpy(chosen).to(features.train.device)
    train, labels = features.train[kept], features.train_labels[kept]
    return features._replace(train=train, train_labels=labels)


def balanced_subset(labels: NDArray[np.integer[Any]], share: float, seed: int) -> NDArray[np.int64]:
    """Return the positions of a random fraction of each class.

    Parameters
    ----------
    labels
        (N,) integers.
    share
        Fraction of each class to select, in (0, 1]. At least one sample of each is selected.
    seed
        Random seed, >= 0.

    Returns
    -------
    NDArray[np.int64]
        Positions, ascending.

    Examples
    --------
    >>> labels = np.array([0, 0, 0, 0, 1, 1])
    >>> labels[balanced_subset(labels, 0.5, seed=0)]
    array([0, 0, 1])
    """
    generator = np.random.default_rng(seed)
    order = np.argsort(labels, kind="stable")
    starts = np.flatnonzero(np.diff(labels[order])) + 1
    chosen = []
    for members in np.split(order, starts):
        count = max(1, round(share * len(members)))
        chosen.append(generator.permutation(members)[:count])
    return np.sort(np.concatenate(chosen))
