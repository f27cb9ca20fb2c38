"""VICReg: keep views close, every feature's variance up, and features uncorrelated."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ffcv_ssl.errors import ConfigError
from ffcv_ssl.ssl.methods.barlow_twins import off_diagonal_energy
from ffcv_ssl.ssl.methods.method import Logs, Method, Normalize

VARIANCE_EPS = 1e-4  # under the root, as in the official code; without it (fastssl) a constant feature's gradient is NaN


def vicreg_loss(embeddings: Tensor, invariance: float, variance: float, covariance: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """VICReg's loss over two or more views, to be minimised: the weighted sum of three terms.

    Let z_v be the (B, D) embeddings of view v and o_v the mean of the other views'. The terms are means over v of

    - invariance: mean squared difference of z_v and o_v, over B and D;
    - variance: half of h(z_v) + h(o_v), where h is the mean over features of max(0, 1 - √(variance + 1e-4));
    - covariance: c(z_v) + c(o_v), where c is the sum of the squared off-diagonal entries of the covariance matrix, divided by D.

    Variances and covariances are the unbiased ones, over B. At V = 2 the other view is o_v and both v give the same, which is VICReg's own
    loss: one formula for any V. Rows are not normalized.

    Parameters
    ----------
    embeddings
        (B, V, D) floating point, B >= 2, V >= 2.
    invariance, variance, covariance
        Weights of the terms, >= 0: 25, 25 and 1 in the paper. The small-projector paper keeps the last at 1 and the first two equal.

    Returns
    -------
    Four scalars: the loss and the three terms without weight.

    Raises
    ------
    ConfigError
        If there is one view or one image.

    References
    ----------
    Bardes et al., arXiv 2105.04906, and facebookresearch/vicreg; kumarkrishna/fastssl, `VICRegLoss`, for V > 2 (it has no 1e-4).
    """
    num_images, num_views, num_features = embeddings.shape
    if num_images < 2 or num_views < 2:
        raise ConfigError(f"VICReg compares views and spreads images: it needs 2 views of 2 images, got {num_views} of {num_images}.")
    mean_view = embeddings.mean(dim=1, keepdim=True)
    # z_v - o_v = V / (V - 1) (z_v - mean), the mean being over all views.
    difference = (embeddings - mean_view) * (num_views / (num_views - 1))
    distance = difference.square().mean()
    # At V = 2 the means of the others are the views again: counting them would change no mean.
    rows = embeddings if num_views == 2 else torch.cat([embeddings, embeddings - difference], dim=1)
    rows = rows.transpose(0, 1)
    centered = rows - rows.mean(dim=1, keepdim=True)
    deviation = (centered.square().sum(dim=1) / (num_images - 1) + VARIANCE_EPS).sqrt()
    hinge = F.relu(1 - deviation).mean()
    energy = off_diagonal_energy(centered, centered).mean() * (2 / ((num_images - 1) ** 2 * num_features))
    return invariance * distance + variance * hinge + covariance * energy, distance, hinge, energy


class VICReg(Method):
    """VICReg for two or more views.

    Parameters
    ----------
    backbone, projector, normalize
        See `Method`.
    invariance, variance, covariance
        See `vicreg_loss`; each >= 0 and finite. The defaults are the paper's.
    """

    def __init__(
        self,
        backbone: nn.Module,
        projector: nn.Module,
        normalize: Normalize,
        invariance: float = 25.0,
        variance: float = 25.0,
        covariance: float = 1.0,
    ):
        super().__init__(backbone, projector, normalize)
        for name, weight in (("invariance", invariance), ("variance", variance), ("covariance", covariance)):
            if not 0 <= weight < math.inf:
                raise ConfigError(f"VICReg: {name} is a weight, finite and not negative; got {weight}.")
        self.invariance = invariance
        self.variance = variance
        self.covariance = covariance

    def loss(self, embeddings: Tensor) -> tuple[Tensor, Logs]:
        """Loss of (B, V, D) embeddings; logs its three terms without weight."""
        loss, distance, hinge, energy = vicreg_loss(embeddings, self.invariance, self.variance, self.covariance)
        return loss, {"invariance": distance.detach(), "variance": hinge.detach(), "covariance": energy.detach()}
