"""What frozen features are worth: nearest neighbours and a linear classifier."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ffcv_ssl.ssl.probes.memory import BLOCK_BYTES, FLOAT_BYTES, check_memory, classifier_bytes, predicted_classes, rows_per_block
from ffcv_ssl.ssl.schedules import warmup_cosine

QUERIES = 1024  # at a time, at most
VOTE_BYTES = 64  # of one neighbour's vote: labels, positions and weights, sorted and not


def knn_predictions(train_features: Tensor, train_labels: Tensor, features: Tensor, k: int = 20, temperature: float = 0.07) -> Tensor:
    """Vote of the `k` nearest training samples by cosine, each weighted by exp(cosine / temperature).

    Memory beside the features is bounded by `ffcv_ssl.ssl.probes.memory.BLOCK_BYTES`, for any number of samples and of classes.

    Parameters
    ----------
    train_features, train_labels
        (M, D) floating point and (M,) int64, any integers.
    features
        (N, D), on the same device.
    k
        Neighbours asked, at most M are used.
    temperature
        > 0; infinite: all neighbours weigh the same.

    Returns
    -------
    (N,) int64; of the neighbours' labels with equally many votes the lowest.

    References
    ----------
    Wu et al., arXiv 1805.01978.
    """
    k = min(k, len(train_features))
    bank = F.normalize(train_features.float(), dim=1)
    predictions = []
    for queries in F.normalize(features.float(), dim=1).split(rows_per_block(VOTE_BYTES * k, most=QUERIES)):
        cosines, neighbours = _nearest(bank, queries, k)
        weights = ((cosines - 1) / temperature).exp()  # less 1: no overflow at small temperatures
        predictions.append(_elected(train_labels[neighbours], weights))
    return torch.cat(predictions)


def _nearest(bank: Tensor, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Cosines and positions, each (n, k), of the nearest of (M, D) for each of (n, D), in blocks."""
    width = max(k, BLOCK_BYTES // (FLOAT_BYTES * len(queries)))
    cosines, places = (queries @ bank[:width].T).topk(k, dim=1)
    for start in range(width, len(bank), width):
        block = bank[start : start + width]
        others, found = (queries @ block.T).topk(min(k, len(block)), dim=1)
        cosines, kept = torch.cat([cosines, others], dim=1).topk(k, dim=1)
        places = torch.cat([places, start + found], dim=1).gather(1, kept)
    return cosines, places


def _elected(labels: Tensor, weights: Tensor) -> Tensor:
    """The label of each row of (n, k) with the highest sum of (n, k) weights, the lowest of equals.

    Each row has a table of votes for its own labels only; they are added in the order of the neighbours.
    """
    ordered, order = labels.sort(dim=1, stable=True)
    candidates = F.pad((ordered[:, 1:] != ordered[:, :-1]).long(), (1, 0)).cumsum(dim=1)  # 0, 0, 1, 2, 2, …
    ballots = torch.empty_like(candidates).scatter_(1, order, candidates)
    winners = torch.zeros_like(weights).scatter_add_(1, ballots, weights).argmax(dim=1, keepdim=True)
    return ordered.gather(1, torch.searchsorted(candidates, winners))[:, 0]


def knn_accuracy(
    train_features: Tensor, train_labels: Tensor, val_features: Tensor, val_labels: Tensor, *, k: int = 20, temperature: float = 0.07
) -> float:
    """Share of validation samples, 0..1, that `knn_predictions` gets right."""
    return _share(knn_predictions(train_features, train_labels, val_features, k, temperature) == val_labels)


@dataclass(frozen=True)
class LinearProbe:
    """Accuracies of a linear classifier, 0..1.

    Attributes
    ----------
    last
        On the validation set after the last epoch: the number to report.
    best
        The highest over the epochs: chosen on the validation set, for comparison with code that prints it.
    train
        On the training set after the last epoch.
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

    Its classes are the labels that occur in the training set; a validation sample with another label
    counts as classified wrongly.

    Parameters
    ----------
    train_features, train_labels, val_features, val_labels
        (M, D), (M,) int64, any integers, (N, D), (N,) int64, on one device.
    epochs, batch_size, lr, momentum, weight_decay
        Defaults are those of EMP-SSL's evaluation (its protocol does not standardize).
    standardize
        Shift and scale each feature by the mean and deviation of the training set first: still a linear classifier, and one learning
        rate then serves raw pixels and features of any scale.
    seed
        Of the initial weights and of the order of the samples; the global generator is not touched.
    optimizer
        "adam" ignores `momentum`; its weight decay is part of the gradient, as in `torch.optim.Adam`.
    cosine
        Bring the learning rate to 0 by a cosine per step; else it is constant.
    label_smoothing
        Share of the target that is spread over all classes, in [0, 1).
    hidden
        Width of a hidden layer with ReLU; 0: none, the classifier is linear.

    Raises
    ------
    ConfigError
        If there are so many classes that the classifier needs more than `ffcv_ssl.ssl.probes.memory.CLASSIFIER_BYTES`.
    """
    classes, targets = torch.unique(train_labels, return_inverse=True)
    sizes = [train_features.shape[1], *([hidden] if hidden else []), len(classes)]
    check_memory("the classifier", classifier_bytes(batch_size, sizes), len(classes), "kNN works for any number of classes.")
    train_x, val_x = train_features.float(), val_features.float()
    if standardize:
        mean, std = train_x.mean(dim=0), train_x.std(dim=0).clamp_min(1e-6)
        train_x, val_x = (train_x - mean) / std, (val_x - mean) / std
    generator = torch.Generator().manual_seed(seed)
    layers = [_linear_layer(num_in, num_out, generator, train_x.device) for num_in, num_out in pairwise(sizes)]
    parameters = [parameter for layer in layers for parameter in layer]
    descent: torch.optim.Optimizer
    if optimizer == "adam":
        descent = torch.optim.Adam(parameters, lr=lr, weight_decay=weight_decay)
    else:
        descent = torch.optim.SGD(parameters, lr=lr, momentum=momentum, weight_decay=weight_decay)

    def logits(x: Tensor) -> Tensor:
        for weight, bias in layers[:-1]:
            x = F.relu(F.linear(x, weight, bias))
        return F.linear(x, *layers[-1])

    def accuracy(x: Tensor, labels: Tensor) -> float:
        with torch.no_grad():
            return _share(classes[predicted_classes(logits, x, max(sizes[1:]))] == labels)

    batches_per_epoch = -(-len(train_x) // batch_size)
    best = last = 0.0
    with torch.enable_grad():
        for epoch in range(epochs):
            order = torch.randperm(len(train_x), generator=generator).to(train_x.device)
            for i, batch in enumerate(order.split(batch_size)):
                if cosine:
                    descent.param_groups[0]["lr"] = lr * warmup_cosine((epoch * batches_per_epoch + i) / (epochs * batches_per_epoch))
                descent.zero_grad()
                F.cross_entropy(logits(train_x[batch]), targets[batch], label_smoothing=label_smoothing).backward()
                descent.step()
            last = accuracy(val_x, val_labels)
            best = max(best, last)
    return LinearProbe(last=last, best=best, train=accuracy(train_x, train_labels))


def _linear_layer(num_in: int, num_out: int, generator: torch.Generator, device: torch.device) -> tuple[nn.Parameter, nn.Parameter]:
    """Weight and bias, the weight drawn as torch's own linear layer draws it."""
    bound = num_in**-0.5
    weight = torch.empty(num_out, num_in).uniform_(-bound, bound, generator=generator)
    return nn.Parameter(weight.to(device)), nn.Parameter(torch.zeros(num_out, device=device))


def _share(correct: Tensor) -> float:
    """Share of True, divided in double precision: 0.45 and not 0.449999988."""
    return int(correct.sum()) / len(correct)
