"""Evaluation of frozen features: k nearest neighbors and a linear classifier."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ffcv_ssl.ssl.probes.memory import (
    BLOCK_BYTES,
    FLOAT_BYTES,
    check_memory,
    classifier_bytes,
    predicted_classes,
    rows_per_block,
)
from ffcv_ssl.ssl.schedules import warmup_cosine

QUERIES = 1024  # maximum number of queries per block
VOTE_BYTES = 64  # memory per neighbor of a query: labels, indices and weights, sorted and unsorted


def knn_predictions(
    train_features: Tensor,
    train_labels: Tensor,
    features: Tensor,
    k: int = 20,
    temperature: float = 0.07,
) -> Tensor:
    """Predict labels by a weighted vote of the k nearest training samples.

    The nearest samples are those with the highest cosine similarity. The weight of a vote is
    exp(cosine / temperature). Temporary tables take at most
    `ffcv_ssl.ssl.probes.memory.BLOCK_BYTES`, for any number of samples and classes.

    Parameters
    ----------
    train_features
        (M, D) floating point, M >= 1.
    train_labels
        (M,) int64, any integers.
    features
        (N, D) floating point, N >= 1, on the same device.
    k
        Number of neighbors, >= 1; at most M are used.
    temperature
        Temperature of the weights, > 0. With infinity all neighbors have the same weight.

    Returns
    -------
    (N,) int64. If labels have equal votes, the lowest of them.

    References
    ----------
    Wu et al., arXiv 1805.01978, section 3.4.
    """
    k = min(k, len(train_features))
    bank = F.normalize(train_features.float(), dim=1)
    rows = rows_per_block(VOTE_BYTES * k, most=QUERIES)
    predictions = []
    for queries in torch.split(F.normalize(features.float(), dim=1), rows):
        cosines, neighbors = _nearest(bank, queries, k)
        weights = ((cosines - 1) / temperature).exp()  # -1: no overflow at low temperatures
        predictions.append(_weighted_majority(train_labels[neighbors], weights))
    return torch.cat(predictions)


def _nearest(bank: Tensor, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Find the k rows of (M, D) nearest to each of (n, D): cosines and indices, both (n, k)."""
    width = max(k, BLOCK_BYTES // (FLOAT_BYTES * len(queries)))
    cosines, indices = (queries @ bank[:width].T).topk(k, dim=1)
    for start in range(width, len(bank), width):
        block = bank[start : start + width]
        block_cosines, found = (queries @ block.T).topk(min(k, len(block)), dim=1)
        cosines, kept = torch.cat([cosines, block_cosines], dim=1).topk(k, dim=1)
        indices = torch.cat([indices, start + found], dim=1).gather(1, kept)
    return cosines, indices


def _weighted_majority(labels: Tensor, weights: Tensor) -> Tensor:
    """Return the label of each row of (n, k) with the highest sum of weights, the lowest of ties.

    Each row has a table of the labels that occur in it. Votes are added in the order of neighbors.
    """
    ordered, order = labels.sort(dim=1, stable=True)
    is_new = (ordered[:, 1:] != ordered[:, :-1]).long()
    candidates = F.pad(is_new, (1, 0)).cumsum(dim=1)  # number of the label in its row: 0, 0, 1, 2…
    votes = torch.empty_like(candidates).scatter_(1, order, candidates)
    totals = torch.zeros_like(weights).scatter_add_(1, votes, weights)
    winners = totals.argmax(dim=1, keepdim=True)
    return ordered.gather(1, torch.searchsorted(candidates, winners))[:, 0]


def knn_accuracy(
    train_features: Tensor,
    train_labels: Tensor,
    val_features: Tensor,
    val_labels: Tensor,
    *,
    k: int = 20,
    temperature: float = 0.07,
) -> float:
    """Return the accuracy of `knn_predictions` on a validation set.

    Parameters
    ----------
    train_features, train_labels, k, temperature
        See `knn_predictions`.
    val_features
        (N, D) floating point, N >= 1, on the same device.
    val_labels
        (N,) int64.

    Returns
    -------
    Fraction of validation samples predicted correctly, 0 to 1.

    Examples
    --------
    >>> import torch
    >>> train = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.1, 0.9]])
    >>> labels = torch.tensor([0, 0, 1, 1])
    >>> val = torch.tensor([[2.0, 0.1], [0.3, 4.0]])
    >>> knn_accuracy(train, labels, val, torch.tensor([0, 1]), k=2)
    1.0
    """
    predictions = knn_predictions(train_features, train_labels, val_features, k, temperature)
    return _fraction_true(predictions == val_labels)


@dataclass(frozen=True)
class LinearProbe:
    """Accuracies of a classifier trained by `linear_probe`, 0 to 1.

    Attributes
    ----------
    last
        Accuracy on the validation set after the last epoch: the number to report.
    best
        Highest validation accuracy of all epochs. It is selected on the validation set; use it only
        to compare with code that reports it.
    train
        Accuracy on the training set after the last epoch.
    """

    last: float
    best: float
    train: float


def linear_probe(
    train_features: Tensor,
    train_labels: Tensor,
    val_features: Tensor,
    val_labels: Tensor,
    *,
    epochs: int = 100,
    batch_size: int = 100,
    lr: float = 0.03,
    momentum: float = 0.9,
    weight_decay: float = 5e-5,
    standardize: bool = True,
    seed: int = 0,
    optimizer: Literal["sgd", "adam"] = "sgd",
    cosine: bool = True,
    label_smoothing: float = 0.0,
    hidden: int = 0,
) -> LinearProbe:
    """Train a linear classifier, or one with a hidden layer, on frozen features.

    The classes are the labels that occur in the training set. A validation sample with another
    label counts as classified incorrectly. The defaults of `epochs`, `batch_size`, `lr`, `momentum`
    and `weight_decay` are those of EMP-SSL's evaluation, which does not standardize.

    Parameters
    ----------
    train_features
        (M, D) floating point.
    train_labels
        (M,) int64, any integers.
    val_features
        (N, D) floating point, on the same device.
    val_labels
        (N,) int64.
    epochs
        Number of passes over the training set, >= 1.
    batch_size
        Number of samples per step, >= 1.
    lr
        Learning rate, > 0.
    momentum
        Momentum of SGD, >= 0; ignored by Adam.
    weight_decay
        Weight decay, >= 0. It is added to the gradient, as in `torch.optim.SGD` and
        `torch.optim.Adam`.
    standardize
        Whether to standardize each feature by its mean and standard deviation on the training set
        first. The classifier remains linear, and one learning rate suits features of any scale.
    seed
        Random seed for the initial weights and the order of samples. The function does not use
        torch's global generator.
    optimizer
        Optimizer, "sgd" or "adam".
    cosine
        Whether the learning rate decays to 0 along a cosine. Otherwise it is constant.
    label_smoothing
        Fraction of the target distribution spread evenly over all classes, in [0, 1).
    hidden
        Width of a hidden layer with ReLU; 0 for a linear classifier.

    Returns
    -------
    Accuracies on the validation and the training set.

    Raises
    ------
    ConfigError
        If there are so many classes that training would need more memory than
        `ffcv_ssl.ssl.probes.memory.CLASSIFIER_BYTES`.

    Examples
    --------
    >>> import torch
    >>> labels = torch.arange(60) % 3
    >>> features = torch.nn.functional.one_hot(labels).float()
    >>> linear_probe(features, labels, features, labels, epochs=5, batch_size=10)
    LinearProbe(last=1.0, best=1.0, train=1.0)
    """
    classes, targets = torch.unique(train_labels, return_inverse=True)
    sizes = [train_features.shape[1], *([hidden] if hidden else []), len(classes)]
    needed = classifier_bytes(batch_size, sizes)
    check_memory("the classifier", needed, len(classes), "kNN works for any number of classes.")
    train_x, val_x = train_features.float(), val_features.float()
    if standardize:
        mean, std = train_x.mean(dim=0), train_x.std(dim=0).clamp_min(1e-6)
        train_x, val_x = (train_x - mean) / std, (val_x - mean) / std
    generator = torch.Generator().manual_seed(seed)
    classifier = _Classifier(sizes, generator, train_x.device)
    descent: torch.optim.Optimizer
    if optimizer == "adam":
        descent = torch.optim.Adam(classifier.parameters, lr=lr, weight_decay=weight_decay)
    else:
        descent = torch.optim.SGD(
            classifier.parameters, lr=lr, momentum=momentum, weight_decay=weight_decay
        )

    def accuracy(x: Tensor, labels: Tensor) -> float:
        with torch.no_grad():
            predictions = classes[predicted_classes(classifier, x, max(sizes[1:]))]
        return _fraction_true(predictions == labels)

    num_steps = epochs * -(-len(train_x) // batch_size)
    step = 0
    best = last = 0.0
    with torch.enable_grad():
        for _ in range(epochs):
            order = torch.randperm(len(train_x), generator=generator).to(train_x.device)
            for batch in torch.split(order, batch_size):
                if cosine:
                    descent.param_groups[0]["lr"] = lr * warmup_cosine(step / num_steps)
                descent.zero_grad()
                logits = classifier(train_x[batch])
                loss = F.cross_entropy(logits, targets[batch], label_smoothing=label_smoothing)
                torch.autograd.backward(loss)
                descent.step()
                step += 1
            last = accuracy(val_x, val_labels)
            best = max(best, last)
    return LinearProbe(last=last, best=best, train=accuracy(train_x, train_labels))


class _Classifier:
    """Linear layers with ReLU between them; weights drawn as by `torch.nn.Linear`, biases 0."""

    def __init__(
        self, sizes: Sequence[int], generator: torch.Generator, device: torch.device
    ) -> None:
        self.layers = []
        for num_in, num_out in pairwise(sizes):
            bound = num_in**-0.5
            weight = torch.empty(num_out, num_in).uniform_(-bound, bound, generator=generator)
            bias = torch.zeros(num_out, device=device)
            self.layers.append((nn.Parameter(weight.to(device)), nn.Parameter(bias)))
        self.parameters = [parameter for layer in self.layers for parameter in layer]

    def __call__(self, x: Tensor) -> Tensor:
        """Map (n, D) features to (n, C) logits."""
        for weight, bias in self.layers[:-1]:
            x = F.relu(F.linear(x, weight, bias))
        return F.linear(x, *self.layers[-1])


def _fraction_true(correct: Tensor) -> float:
    """Return the fraction of True, divided in double precision: 0.45, not 0.449999988."""
    return int(correct.sum()) / len(correct)
