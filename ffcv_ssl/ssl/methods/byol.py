"""BYOL: predict, from one view, what a slowly following copy of the network sees in another."""

from copy import deepcopy

import torch
from torch import Tensor, nn

from ffcv_ssl.errors import ConfigError
from ffcv_ssl.ssl.methods.method import Logs, Method, Normalize, at_least_float32
from ffcv_ssl.ssl.methods.unit import unit
from ffcv_ssl.ssl.schedules import rising_momentum


def mean_cosine(predictions: Tensor, targets: Tensor) -> Tensor:
    """Mean cosine between the prediction of one view and the target of another, over images and ordered pairs of different views.

    Parameters
    ----------
    predictions, targets
        (B, V, D) floating point, V >= 2; normalized here.
    """
    p, t = unit(predictions), unit(targets)
    num_views = p.shape[1]
    # All V² cosines are one product of sums; the V of a view with itself are taken off.
    all_pairs = (p.sum(dim=1) * t.sum(dim=1)).sum(dim=1)
    same_view = (p * t).sum(dim=(1, 2))
    return (all_pairs - same_view).mean() / (num_views * (num_views - 1))


def byol_loss(predictions: Tensor, targets: Tensor) -> Tensor:
    """BYOL's loss, to be minimised: twice the mean of 2 - 2 cosine over ordered pairs of different views.

    2 - 2 cosine is the squared distance of unit vectors. For V = 2 this is the paper's sum of both directions; more views keep its scale.

    Parameters
    ----------
    predictions
        (B, V, D) floating point, V >= 2; normalized here.
    targets
        Like `predictions`; no gradient flows into them.

    Returns
    -------
    Scalar, 0 (every prediction points along its targets) to 8.

    Raises
    ------
    ConfigError
        If the shapes differ, or hold one view.

    References
    ----------
    Grill et al., arXiv 2006.07733, equation 2 and the sum below it.
    """
    if predictions.shape != targets.shape:
        got = f"{tuple(predictions.shape)} and {tuple(targets.shape)}"
        raise ConfigError(
            f"BYOL: predictions and targets are of one shape, got {got}. The predictor's output is as long as the projector's."
        )
    if predictions.shape[1] < 2:
        raise ConfigError("BYOL predicts one view from another: it needs at least 2 views, got 1.")
    return 4 - 4 * mean_cosine(predictions, targets.detach())


class BYOL(Method):
    """BYOL for two or more views.

    The target network is a copy of backbone and projector, weights included. After each step its weights move towards the online ones;
    no optimizer knows them. As in the released code its batch normalization works as the online one does: statistics of the batch while
    training, running statistics of its own, which are not averaged with the online ones. What is kept and evaluated is the online backbone.

    Parameters
    ----------
    backbone, projector, normalize
        See `Method`. The released code passes one view at a time (`views_per_forward` 1), which the predictor and the target follow.
    predictor
        Maps embeddings (N, D) to predictions (N, D) of the target's embeddings.
    momentum
        Share of itself that the target keeps at a step, in [0, 1]; at the start, then see `rising_momentum`. The released code has .996
        for 1000 epochs, .99 for 100 or 300, .97 for 40.

    References
    ----------
    Grill et al., arXiv 2006.07733; github.com/google-deepmind/deepmind-research, byol/.
    """

    def __init__(
        self,
        backbone: nn.Module,
        projector: nn.Module,
        predictor: nn.Module,
        normalize: Normalize,
        momentum: float = 0.996,
    ):
        super().__init__(backbone, projector, normalize)
        if not 0 <= momentum <= 1:
            raise ConfigError(f"BYOL: momentum lies in [0, 1], got {momentum}.")
        self.predictor = predictor
        self.momentum = momentum
        self.target_backbone = deepcopy(backbone).requires_grad_(False)
        self.target_projector = deepcopy(projector).requires_grad_(False)

    def predict(self, views: Tensor) -> Tensor:
        """Map (B, V, 3, H, W) views to the online network's (B, V, D) predictions."""
        return self.encode(views, lambda images: self.predictor(self.projector(self.features(images))))

    @torch.no_grad()
    def targets(self, views: Tensor) -> Tensor:
        """Map (B, V, 3, H, W) views to the target network's (B, V, D) embeddings, without gradient."""
        return self.encode(views, lambda images: self.target_projector(self.target_backbone(self.normalize(images))))

    def forward(self, views: Tensor) -> tuple[Tensor, Logs]:
        """Loss of a batch of (B, V, 3, H, W) views, in float32; logs the mean cosine and the unit targets' variance, 0 when collapsed.

        A mean over images: the mean over processes is that of the whole batch, and nothing is gathered.
        """
        predictions, targets = self.predict(views), self.targets(views)
        with torch.autocast(views.device.type, enabled=False):
            predictions, targets = at_least_float32(predictions), at_least_float32(targets)
            loss = byol_loss(predictions, targets)
            variance = 1 - unit(targets).mean(dim=(0, 1)).square().sum()
            return loss, {"cosine": 1 - loss.detach() / 4, "target_variance": variance}

    @torch.no_grad()
    def after_step(self, share_done: float) -> Logs:
        """Move the target's weights towards the online ones: target = momentum target + (1 - momentum) online; logs the momentum."""
        momentum = rising_momentum(share_done, self.momentum)
        online: list[Tensor] = [*self.backbone.parameters(), *self.projector.parameters()]
        target: list[Tensor] = [*self.target_backbone.parameters(), *self.target_projector.parameters()]
        torch._foreach_lerp_(target, online, 1 - momentum)
        return {"momentum": torch.tensor(momentum, dtype=torch.float64)}
