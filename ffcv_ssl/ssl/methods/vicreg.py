"""VICReg: keep views close, the variance of every feature up, and features uncorrelated."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ffcv_ssl.errors import ConfigError
from ffcv_ssl.ssl.methods.barlow_twins import off_diagonal_energy
from ffcv_ssl.ssl.methods.method import Logs, Method, Normalize

# Added to the variance under the root, as in the official code. Without it, as in fastssl, the
# gradient of a constant feature is NaN.
VARIANCE_EPS = 1e-4


def vicreg_loss(
    embeddings: Tensor, invariance: float, variance: float, covariance: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return VICReg's loss over two or more views: the weighted sum of three terms.

    Let z_v be the (B, D) embeddings of view v and o_v the mean of the other views. Each term is a
    mean over v of

    - invariance: the mean of (z_v - o_v)² over B and D;
    - variance: (h(z_v) + h(o_v)) / 2, where h is the mean over features of
      max(0, 1 - √(variance + 1e-4));
    - covariance: c(z_v) + c(o_v), where c is the sum of the squared off-diagonal entries of the
      covariance matrix, divided by D.

    Variances and covariances are unbiased estimates over B. For V = 2 the loss equals VICReg's
    two-view loss. The embeddings are not normalized to unit length.

    Parameters
    ----------
    embeddings
        (B, V, D) floating point, B >= 2, V >= 2.
    invariance
        Weight of the invariance term, >= 0; 25 in the paper.
    variance
        Weight of the variance term, >= 0; 25 in the paper.
    covariance
        Weight of the covariance term, >= 0; 1 in the paper. The small-projector paper keeps it at 1
        and sets the other two to equal values.

    Returns
    -------
    Four scalars: the loss, to be minimized, and the three terms without their weights.

    Raises
    ------
    ConfigError
        If there is only one view or only one image.

    References
    ----------
    Bardes et al., arXiv 2105.04906, equations 1 to 6, and facebookresearch/vicreg. V > 2:
    kumarkrishna/fastssl, `VICRegLoss`, but with the 1e-4 of the official code.
    """
    num_images, num_views, num_features = embeddings.shape
    if num_images < 2 or num_views < 2:
        raise ConfigError(
            "VICReg compares views and spreads images; it needs at least 2 views of 2 images, "
            f"got {num_views} of {num_images}."
        )
    mean_view = embeddings.mean(dim=1, keepdim=True)
    # z_v - o_v = V / (V - 1) (z_v - mean), with the mean over all views.
    difference = (embeddings - mean_view) * (num_views / (num_views - 1))
    distance = difference.square().mean()
    # For V = 2 the means of the other views are the views themselves; adding them changes no mean.
    rows = embeddings if num_views == 2 else torch.cat([embeddings, embeddings - difference], dim=1)
    rows = rows.transpose(0, 1)
    centered = rows - rows.mean(dim=1, keepdim=True)
    deviation = (centered.square().sum(dim=1) / (num_images - 1) + VARIANCE_EPS).sqrt()
    hinge = F.relu(1 - deviation).mean()
    energy = off_diagonal_energy(centered, centered).mean() * (
        2 / ((num_images - 1) ** 2 * num_features)
    )
    loss = invariance * distance + variance * hinge + covariance * energy
    return loss, distance, hinge, energy


class VICReg(Method):
    """VICReg for two or more views; the loss is `vicreg_loss`.

    Parameters
    ----------
    backbone
        Module that maps (N, 3, H, W) images to (N, num_features) features.
    projector
        Module that maps features to embeddings (N, D).
    normalize
        Normalization of uint8 images.
    invariance
        Weight of the invariance term, >= 0 and finite. The default is the paper's.
    variance
        Weight of the variance term, >= 0 and finite. The default is the paper's.
    covariance
        Weight of the covariance term, >= 0 and finite. The default is the paper's.

    Raises
    ------
    ConfigError
        If a weight is negative or not finite.

    References
    ----------
    Bardes et al., arXiv 2105.04906.
    """

    def __init__(
        self,
        backbone: nn.Module,
        projector: nn.Module,
        normalize: Normalize,
        invariance: float = 25.0,
        variance: float = 25.0,
        covariance: float = 1.0,
    ) -> None:
        super().__init__(backbone, projector, normalize)
        weights = {"invariance": invariance, "variance": variance, "covariance": covariance}
        for name, weight in weights.items():
            if not 0 <= weight < math.inf:
                raise ConfigError(f"VICReg: {name} must be a finite weight >= 0, got {weight}.")
        self.invariance = invariance
        self.variance = variance
        self.covariance = covariance

    def loss(self, embeddings: Tensor) -> tuple[Tensor, Logs]:
        """Return the loss and its three terms without their weights.

        Parameters
        ----------
        embeddings
            (B, V, D) float32 or float64, B >= 2, V >= 2.

        Returns
        -------
        The scalar loss, and the logs "invariance", "variance" and "covariance".

        Raises
        ------
        ConfigError
            If there is only one view or only one image.
        """
        loss, distance, hinge, energy = vicreg_loss(
            embeddings, self.invariance, self.variance, self.covariance
        )
        return loss, {
            "invariance": distance.detach(),
            "variance": hinge.detach(),
            "covariance": energy.detach(),
        }
