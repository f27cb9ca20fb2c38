"""What frozen features are worth: nearest neighbours and a linear classifier."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ffcv_ssl.ssl.schedules import warmup_cosine

CHUNK = 1024  # queries at a time: 1024 x 50,000 similarities are 200 MB


def knn_predictions(
    train_features: Tensor, train_labels: Tensor, features: Tensor, num_classes: int, k: int = 20, temperature: float = 0.07
) -> Tensor:
    """Vote of the `k` nearest training samples by cosine, each weighted by exp(cosine / temperature).

    Parameters
    ----------
    train_features, train_labels
        (M, D) floating point and (M,) int64 in 0..num_classes-1.
    features
        (N, D), on the same device.
    num_classes
        Number of classes.
    k
        Neighbours asked, at most M are used.
    temperature
        > 0; infinite: all neighbours weigh the same.

    Returns
    -------
    (N,) int64; of classes with equally many votes the lowest.

    References
    ----------
    Wu et al., arXiv 1805.01978.
    """
    bank = F.normalize(train_features.float(), dim=1)
    predictions = []
    for chunk in F.normalize(features.float(), dim=1).split(CHUNK):
        cosines, neighbours = (chunk @ bank.T).topk(min(k, len(bank)), dim=1)
        weights = ((cosines - 1) / temperature).exp()  # less 1: no overflow at small temperatures
        votes = torch.zeros(len(chunk), num_classes, device=bank.device).scatter_add_(1, train_labels[neighbours], weights)
        predictions.append(votes.argmax(dim=1))
    return torch.cat(predictions)


def knn_accuracy(
    train_features: Tensor, train_labels: Tensor, val_features: Tensor, val_labels: Tensor, *, k: int = 20, temperature: float = 0.07
) -> float:
    """Share of validation samples, 0..1, that `knn_predictions` gets right."""
    num_classes = _num_classes(train_labels, val_labels)
    predictions = knn_predictions(train_features, train_labels, val_features, num_classes, k, temperature)
    return _share(predictions == val_labels)


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

    Parameters
    ----------
    train_features, train_labels, val_features, val_labels
        (M, D), (M,) int64, (N, D), (N,) int64, on one device.
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
    """
    train_x, val_x = train_features.float(), val_features.float()
    if standardize:
        mean, std = train_x.mean(dim=0), train_x.std(dim=0).clamp_min(1e-6)
        train_x, val_x = (train_x - mean) / std, (val_x - mean) / std
    generator = torch.Generator().manual_seed(seed)
    sizes = [train_x.shape[1], *([hidden] if hidden else []), _num_classes(train_labels, val_labels)]
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
            return _share(logits(x).argmax(dim=1) == labels)

    batches_per_epoch = -(-len(train_x) // batch_size)
    best = last = 0.0
    with torch.enable_grad():
        for epoch in range(epochs):
            order = torch.randperm(len(train_x), generator=generator).to(train_x.device)
            for i, batch in enumerate(order.split(batch_size)):
                if cosine:
                    descent.param_groups[0]["lr"] = lr * warmup_cosine((epoch * batches_per_epoch + i) / (epochs * batches_per_epoch))
                descent.zero_grad()
                F.cross_entropy(logits(train_x[batch]), train_labels[batch], label_smoothing=label_smoothing).backward()
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


def _num_classes(*labels: Tensor) -> int:
    return 1 + max(int(part.max()) for part in labels)
