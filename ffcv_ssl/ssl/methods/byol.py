"""BYOL: predict a slowly moving target network's embedding of one view from another view."""

from copy import deepcopy

import torch
from torch import Tensor, nn

from ffcv_ssl.errors import ConfigError
from ffcv_ssl.ssl.methods.method import Logs, Method, Normalize, at_least_float32, unit
from ffcv_ssl.ssl.schedules import rising_momentum


def mean_cosine(predictions: Tensor, targets: Tensor) -> Tensor:
    """Return the mean cosine between predictions of one view and targets of another.

    The mean is over images and over ordered pairs of different views.

    Parameters
    ----------
    predictions
        (B, V, D) floating point, V >= 2. The function normalizes them to unit length.
    targets
        Like `predictions`.

    Returns
    -------
    Scalar, -1 to 1.
    """
    p, t = unit(predictions), unit(targets)
    num_views = p.shape[1]
    # The product of the sums holds all V² cosines; subtract the V cosines of a view with itself.
    all_pairs = (p.sum(dim=1) * t.sum(dim=1)).sum(dim=1)
    same_view = (p * t).sum(dim=(1, 2))
    return (all_pairs - same_view).mean() / (num_views * (num_views - 1))


def byol_loss(predictions: Tensor, targets: Tensor) -> Tensor:
    """Return BYOL's loss: twice the mean of 2 - 2 * cosine over ordered pairs of different views.

    2 - 2 * cosine is the squared distance of unit vectors. For V = 2 the loss is the paper's sum of
    both directions. More views keep its scale.

    Parameters
    ----------
    predictions
        (B, V, D) floating point, V >= 2. The function normalizes them to unit length.
    targets
        Like `predictions`; they get no gradient.

    Returns
    -------
    Scalar, 0 (every prediction has the direction of its targets) to 8, to be minimized.

    Raises
    ------
    ConfigError
        If the shapes differ, or there is only one view.

    References
    ----------
    Grill et al., arXiv 2006.07733, equation 2 and the symmetric sum below it.
    """
    if predictions.shape != targets.shape:
        raise ConfigError(
            "BYOL: predictions and targets must have one shape, "
            f"got {tuple(predictions.shape)} and {tuple(targets.shape)}. "
            "Give the predictor outputs of the same length as the projector."
        )
    if predictions.shape[1] < 2:
        raise ConfigError("BYOL predicts one view from another and needs at least 2 views, got 1.")
    return 4 - 4 * mean_cosine(predictions, targets.detach())


class BYOL(Method):
    """BYOL for two or more views; the loss is `byol_loss`.

    The target network is a copy of backbone and projector, including the initial weights. Its
    parameters have `requires_grad` False. After each step they move towards the online parameters.
    As in the released code, batch normalization of the target uses batch statistics during training
    and has its own running statistics, which are not averaged with the online ones. Evaluation uses
    the online backbone.

    Parameters
    ----------
    backbone
        Module that maps (N, 3, H, W) images to (N, num_features) features.
    projector
        Module that maps features to embeddings (N, D); see `simclr_projector`.
    predictor
        Module that maps embeddings (N, D) to predictions (N, D) of the target's embeddings; see
        `byol_predictor`.
    normalize
        Normalization of uint8 images.
    momentum
        Momentum of the moving average at the start of training, in [0, 1]; `rising_momentum` gives
        its course. The released code uses 0.996 for 1000 epochs, 0.99 for 100 or 300, 0.97 for 40.

    Raises
    ------
    ConfigError
        If `momentum` is outside [0, 1].

    Notes
    -----
    The released code passes one view at a time through all networks: set `views_per_forward` to 1.

    References
    ----------
    Grill et al., arXiv 2006.07733; google-deepmind/deepmind-research, byol/.
    """

    def __init__(
        self,
        backbone: nn.Module,
        projector: nn.Module,
        predictor: nn.Module,
        normalize: Normalize,
        momentum: float = 0.996,
    ) -> None:
        super().__init__(backbone, projector, normalize)
        if not 0 <= momentum <= 1:
            raise ConfigError(f"BYOL: momentum must be in [0, 1], got {momentum}.")
        self.predictor = predictor
        self.momentum = momentum
        self.target_backbone = deepcopy(backbone).requires_grad_(False)
        self.target_projector = deepcopy(projector).requires_grad_(False)

    def predict(self, views: Tensor) -> Tensor:
        """Map (B, V, 3, H, W) views to the online network's (B, V, D) predictions."""
        return self.encode(
            views, lambda images: self.predictor(self.projector(self.features(images)))
        )

    @torch.no_grad()
    def targets(self, views: Tensor) -> Tensor:
        """Map (B, V, 3, H, W) views to the target network's (B, V, D) embeddings."""
        return self.encode(
            views,
            lambda images: self.target_projector(self.target_backbone(self.normalize(images))),
        )

    def forward(self, views: Tensor) -> tuple[Tensor, Logs]:
        """Return the loss of a batch of views.

        The loss is a mean over images. Its mean over processes is therefore the loss of the whole
        batch, and embeddings need not be gathered.

        Parameters
        ----------
        views
            (B, V, 3, H, W) uint8, or normalized floating point, V >= 2.

        Returns
        -------
        The scalar loss, at least float32, and the logs "cosine" (mean cosine between predictions
        and targets) and "target_variance" (variance of the unit targets, 0 when they collapse).

        Raises
        ------
        ConfigError
            If there is only one view, or predictions and targets differ in length.
        """
        predictions, targets = self.predict(views), self.targets(views)
        with torch.autocast(views.device.type, enabled=False):
            predictions, targets = at_least_float32(predictions), at_least_float32(targets)
            loss = byol_loss(predictions, targets)
            variance = 1 - unit(targets).mean(dim=(0, 1)).square().sum()
            return loss, {"cosine": 1 - loss.detach() / 4, "target_variance": variance}

    @torch.no_grad()
    def after_step(self, share_done: float) -> Logs:
        """Move the target's parameters: target = m * target + (1 - m) * online.

        Parameters
        ----------
        share_done
            Fraction of training done before the step, 0 to 1. `rising_momentum` maps it to the
            momentum m.

        Returns
        -------
        The log "momentum", m as float64.

        References
        ----------
        Grill et al., arXiv 2006.07733, equation 1.
        """
        momentum = rising_momentum(share_done, self.momentum)
        online: list[Tensor] = [*self.backbone.parameters(), *self.projector.parameters()]
        target: list[Tensor] = [
            *self.target_backbone.parameters(),
            *self.target_projector.parameters(),
        ]
        torch._foreach_lerp_(target, online, 1 - momentum)
        return {"momentum": torch.tensor(momentum, dtype=torch.float64)}
