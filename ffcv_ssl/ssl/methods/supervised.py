"""Supervised training, the yardstick: the same network and loop, with labels."""

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ffcv_ssl.errors import ConfigError
from ffcv_ssl.ssl.methods.method import Logs, Method, Normalize


class Supervised(Method):
    """Cross entropy of every view's class.

    Parameters
    ----------
    backbone, normalize
        See `Method`.
    num_features
        Length of the backbone's features.
    num_classes
        Classes; labels are 0..num_classes-1. The projector is the linear classifier.
    label_smoothing
        Share of the target spread over all classes, in [0, 1).
    """

    uses_labels: ClassVar[bool] = True

    def __init__(
        self,
        backbone: nn.Module,
        num_features: int,
        num_classes: int,
        normalize: Normalize,
        label_smoothing: float = 0.0,
    ):
        if num_classes < 2:
            raise ConfigError(f"supervised: there are at least 2 classes, got {num_classes}.")
        if not 0 <= label_smoothing < 1:
            raise ConfigError(f"supervised: label_smoothing is a share in [0, 1), got {label_smoothing}.")
        super().__init__(backbone, nn.Linear(num_features, num_classes), normalize)
        self.num_classes, self.label_smoothing = num_classes, label_smoothing

    def forward(self, views: Tensor, labels: Tensor) -> tuple[Tensor, Logs]:  # type: ignore[override]  # it needs the labels
        """Cross entropy of (B, V, 3, H, W) views with (B,) int64 labels, in float32; logs the share of views classified right."""
        logits = self.embed(views)
        with torch.autocast(views.device.type, enabled=False):
            logits, targets = logits.float().flatten(0, 1), labels.repeat_interleave(views.shape[1])
            loss = F.cross_entropy(logits, targets, label_smoothing=self.label_smoothing)
        return loss, {"accuracy": (logits.detach().argmax(dim=1) == targets).float().mean()}

    def classify(self, images: Tensor) -> Tensor:
        """Map (N, 3, H, W) images to (N, num_classes) logits."""
        return self.projector(self.features(images))
