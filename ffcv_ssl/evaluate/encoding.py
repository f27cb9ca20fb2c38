"""Encoding of a whole file: features and class indices."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ffcv_ssl.train.device import autocast

Encoder = Callable[[Tensor], Tensor]  # (N, 3, H, W) uint8 -> (N, D)


@torch.no_grad()
def extract_features(
    encoder: Encoder,
    loader: Iterable[Any],
    label: str,
    device: torch.device,
    precision: str = "float32",
) -> tuple[Tensor, Tensor]:
    """Encode every sample of a loader once.

    Parameters
    ----------
    encoder
        Function that maps (N, 3, H, W) uint8 images on `device` to (N, D) features.
    loader
        Loader whose batches hold images (B, 3, H, W) in their first field, or views
        (B, V, 3, H, W), whose V features are averaged (a bag of patches).
    label
        Name of the label field.
    device, precision
        Device and precision of the encoding.

    Returns
    -------
    features : Tensor
        (N, D) float32, on `device`.
    labels : Tensor
        (N,) int64, on `device`.
    """
    features, labels = [], []
    for batch in loader:
        images = batch[0].to(device, non_blocking=True)
        with autocast(device, precision):
            if images.ndim == 5:
                encoded = encoder(images.flatten(0, 1)).float()
                encoded = encoded.reshape(*images.shape[:2], *encoded.shape[1:]).mean(dim=1)
            else:
                encoded = encoder(images).float()
        features.append(encoded)
        labels.append(batch[label].to(device).long().flatten())
    return torch.cat(features), torch.cat(labels)


def share_right(predicted: Tensor, labels: Tensor) -> float:
    """Return the accuracy of predicted classes.

    Parameters
    ----------
    predicted
        (N, 1) predicted class indices; see `Evaluation.predictions`.
    labels
        (N,) class indices.

    Returns
    -------
    float
        Fraction of correct predictions, in 0..1.

    Examples
    --------
    >>> share_right(torch.tensor([[0], [1], [1], [2]]), torch.tensor([0, 1, 2, 2]))
    0.75
    """
    return int((predicted[:, 0] == labels).sum()) / len(labels)


class Features(NamedTuple):
    """Features and class indices of a training and a validation file.

    Attributes
    ----------
    train, train_labels
        (M, D) features and (M,) class indices 0..C-1 of the training file, as in `Classes`.
    val, val_labels
        (N, D) features and (N,) class indices of the validation file; -1 for a class that does not
        occur in the training file.
    """

    train: Tensor
    train_labels: Tensor
    val: Tensor
    val_labels: Tensor
