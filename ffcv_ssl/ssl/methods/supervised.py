"""Supervised baseline: the same network and training loop, with labels."""

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ffcv_ssl.errors import ConfigError
from ffcv_ssl.ssl.methods.method import Logs, Method, Normalize


class Supervised(Method):
    """Cross entropy of a linear classifier on every view; the projector is the classifier.

    Parameters
    ----------
    backbone
        Module that maps (N, 3, H, W) images to (N, num_features) features.
    num_features
        Length of the backbone's features.
    num_classes
        Number of classes, >= 2. Labels are 0 to num_classes - 1.
    normalize
        Normalization of uint8 images.
    label_smoothing
        Fraction of the target distribution spread evenly over all classes, in [0, 1).

    Raises
    ------
    ConfigError
        If `num_classes` or `label_smoothing` is out of range.

    References
    ----------
    Label smoothing: Szegedy et al., arXiv 1512.00567, section 7; here
    `torch.nn.functional.cross_entropy`.
    """

    uses_labels: ClassVar[bool] = True

    def __init__(
        self,
        backbone: nn.Module,
        num_features: int,
        num_classes: int,
        normalize: Normalize,
        label_smoothing: float = 0.0,
    ) -> None:
        if num_classes < 2:
            raise ConfigError(f"supervised: there must be at least 2 classes, got {num_classes}.")
        if not 0 <= label_smoothing < 1:
            raise ConfigError(
                f"supervised: label_smoothing must be in [0, 1), got {label_smoothing}."
            )
        super().__init__(backbone, nn.Linear(num_features, num_classes), normalize)
        self.num_classes, self.label_smoothing = num_classes, label_smoothing

    def forward(  # type: ignore[override]  # this method needs the labels
        self, views: Tensor, labels: Tensor
    ) -> tuple[Tensor, Logs]:
        """Return the cross entropy of a batch of views.

        Parameters
        ----------
        views
            (B, V, 3, H, W) uint8, or normalized floating point.
        labels
            (B,) int64, 0 to num_classes - 1.

        Returns
        -------
        The scalar float32 loss, the mean over views, and the log "accuracy", the fraction of views
        classified correctly.
        """
        logits = self.embed(views)
        with torch.autocast(views.device.type, enabled=False):
            logits, targets = logits.float().flatten(0, 1), labels.repeat_interleave(views.shape[1])
            loss = F.cross_entropy(logits, targets, label_smoothing=self.label_smoothing)
        accuracy = (logits.detach().argmax(dim=1) == targets).float().mean()
        return loss, {"accuracy": accuracy}

    def classify(self, images: Tensor) -> Tensor:
        """Map (N, 3, H, W) images to (N, num_classes) logits."""
        logits: Tensor = self.projector(self.features(images))
        return logits
