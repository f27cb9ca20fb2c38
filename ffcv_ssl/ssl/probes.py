"""What frozen features are worth: nearest neighbours and a linear classifier."""

from dataclasses import dataclass

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
        > 0.

    Returns
    -------
    (N,) int64.

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
) -> LinearProbe:
    """Train a linear classifier on frozen features by SGD with a cosine per step.

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
    """
    train_x, val_x = train_features.float(), val_features.float()
    if standardize:
        mean, std = train_x.mean(dim=0), train_x.std(dim=0).clamp_min(1e-6)
        train_x, val_x = (train_x - mean) / std, (val_x - mean) / std
    generator = torch.Generator().manual_seed(seed)
    num_classes = _num_classes(train_labels, val_labels)
    bound = train_x.shape[1] ** -0.5  # torch's own initialisation of a linear layer
    weight = nn.Parameter(torch.empty(num_classes, train_x.shape[1]).uniform_(-bound, bound, generator=generator).to(train_x.device))
    bias = nn.Parameter(torch.zeros(num_classes, device=train_x.device))
    optimizer = torch.optim.SGD([weight, bias], lr=lr, momentum=momentum, weight_decay=weight_decay)

    def accuracy(x: Tensor, labels: Tensor) -> float:
        with torch.no_grad():
            return _share(F.linear(x, weight, bias).argmax(dim=1) == labels)

    batches_per_epoch = -(-len(train_x) // batch_size)
    best = last = 0.0
    with torch.enable_grad():
        for epoch in range(epochs):
            order = torch.randperm(len(train_x), generator=generator).to(train_x.device)
            for i, batch in enumerate(order.split(batch_size)):
                optimizer.param_groups[0]["lr"] = lr * warmup_cosine((epoch * batches_per_epoch + i) / (epochs * batches_per_epoch))
                optimizer.zero_grad()
                F.cross_entropy(F.linear(train_x[batch], weight, bias), train_labels[batch]).backward()
                optimizer.step()
            last = accuracy(val_x, val_labels)
            best = max(best, last)
    return LinearProbe(last=last, best=best, train=accuracy(train_x, train_labels))


def _share(correct: Tensor) -> float:
    """Share of True, divided in double precision: 0.45 and not 0.449999988."""
    return int(correct.sum()) / len(correct)


def _num_classes(*labels: Tensor) -> int:
    return 1 + max(int(part.max()) for part in labels)
