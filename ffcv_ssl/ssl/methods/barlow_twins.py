"""Barlow Twins: correlate each feature with itself across views, and with no other feature."""

import math

import torch
from torch import Tensor, nn

from ffcv_ssl.errors import ConfigError
from ffcv_ssl.ssl.methods.method import Logs, Method, Normalize
from ffcv_ssl.ssl.methods.unit import unit

VARIANCE_EPS = 1e-5  # added to a feature's variance; `BatchNorm1d`'s default, which the original's standardisation has


def small_projector_off_weight(num_features: int) -> float:
    """Weight of the off-diagonal term that goes with `num_features` values per embedding: 5 / D.

    Read off the released sweep of two views at D = 128, 256 and 512 (.04, .02, .01). The sweep's best is half of it at D = 64 (.04), nearer
    2 / D at 1024 to 4096, and with four or eight views at D = 256 again half of it (.01): tune around the rule rather than trust it there.

    References
    ----------
    Sweep scripts of kumarkrishna/fastssl, CIFAR-10.
    """
    return 5 / num_features


def off_diagonal_energy(x: Tensor, y: Tensor) -> Tensor:
    """Sum of the squared off-diagonal entries of xᵀy.

    The sum of all squares of xᵀy is the dot product of the Gram matrices xxᵀ and yyᵀ. With fewer rows than columns these are smaller than
    xᵀy, which is then never built (D = 8192, B = 512: 1 MiB instead of 256), and taking the diagonal off costs no precision that matters:
    with so few rows most of the energy lies off the diagonal.

    Parameters
    ----------
    x, y
        (..., B, D) floating point; may be the same tensor.

    Returns
    -------
    (...,).
    """
    num_rows, num_columns = x.shape[-2:]
    if num_rows < num_columns:
        gram = x @ x.mT
        energy = (gram * (gram if y is x else y @ y.mT)).sum(dim=(-2, -1))
        return energy - (x * y).sum(dim=-2).square().sum(dim=-1)
    product = x.mT @ y
    return (product - product.diagonal(dim1=-2, dim2=-1).diag_embed()).square().sum(dim=(-2, -1))


def standardize(embeddings: Tensor, unit_length: bool, per_view: bool) -> Tensor:
    """Shift and scale each feature to mean 0 and mean square 1; a constant feature becomes 0.

    The variance is the biased one, as in the original's batch normalization: agreeing views then correlate exactly 1 in any batch. The
    unbiased one of fastssl leaves 1 - 1 / (V B).

    Parameters
    ----------
    embeddings
        (B, V, D) floating point.
    unit_length
        Whether rows are divided by their length first. They are then given length √D, so that `VARIANCE_EPS` is small beside a
        feature's variance for any D; a common factor changes nothing else.
    per_view
        Whether each view has its own mean and variance over B rows; otherwise all share those over V x B rows.
    """
    x = unit(embeddings) * math.sqrt(embeddings.shape[2]) if unit_length else embeddings
    variance, mean = torch.var_mean(x, dim=0 if per_view else (0, 1), correction=0, keepdim=True)
    return (x - mean) * (variance + VARIANCE_EPS).rsqrt()


def barlow_twins_loss(
    embeddings: Tensor, off_weight: float, unit_length: bool = True, per_view: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """Barlow Twins' loss over two or more views, to be minimised: on-diagonal + `off_weight` x off-diagonal.

    Let z_v be the (B, D) standardised embeddings of view v. There are two forms, as in the released code of the small-projector paper:

    - V = 2, the original: C = z_1ᵀz_2 / B; on = Σ_k (C_kk - 1)²; off = Σ_{k≠l} C_kl².
    - V > 2, with m the mean of the z_v: on = mean over v of Σ_k ((z_vᵀm / B)_kk - 1)²; off = Σ_{k≠l} ((mᵀm / B)_kl)². One D x D product
      whatever V.

    The second does not become the first at V = 2: there z_vᵀm holds half of each view's correlation with itself, so that its on-diagonal
    term is about a quarter of the first's, and mᵀm mixes in the off-diagonal correlations within a view.

    Parameters
    ----------
    embeddings
        (B, V, D) floating point, B >= 2, V >= 2.
    off_weight
        Weight λ >= 0 of the off-diagonal term; see `small_projector_off_weight`. The original uses .0051 for D = 8192.
    unit_length
        Whether rows are normalized before they are standardised: True in the small-projector paper, whose weights go with it; False in
        the original.
    per_view
        Whether each view is standardised alone, as the original does. By default all V x B rows share one mean and variance, as in the
        small-projector paper: views are draws of one distribution, V times more rows make steadier estimates, and a shift between views
        counts as disagreement instead of being removed.

    Returns
    -------
    Three scalars: the loss, the on-diagonal and the off-diagonal term, both without weight.

    Raises
    ------
    ConfigError
        If there is one view or one image.

    References
    ----------
    Zbontar et al., arXiv 2103.03230, equation 1, and facebookresearch/barlowtwins (that is `unit_length=False, per_view=True`);
    kumarkrishna/fastssl, `BarlowTwinLoss`, its third multi-view form.
    """
    num_images, num_views, _ = embeddings.shape
    if num_images < 2 or num_views < 2:
        raise ConfigError(
            f"Barlow Twins correlates features over images and views: it needs 2 views of 2 images, got {num_views} of {num_images}."
        )
    z = standardize(embeddings, unit_length, per_view)
    if num_views == 2:
        first, second = z.unbind(dim=1)
        diagonal = (first * second).mean(dim=0, keepdim=True)
    else:
        first = second = z.mean(dim=1)
        diagonal = (z * first[:, None]).mean(dim=0)
    on = (diagonal - 1).square().sum(dim=1).mean()
    off = off_diagonal_energy(first, second) / num_images**2
    return on + off_weight * off, on, off


class BarlowTwins(Method):
    """Barlow Twins for two or more views.

    Parameters
    ----------
    backbone, projector, normalize
        See `Method`.
    off_weight
        Weight of the off-diagonal term, >= 0 and finite; None: `small_projector_off_weight` of the embeddings' length.
    unit_length, per_view
        See `barlow_twins_loss`.
    """

    def __init__(
        self,
        backbone: nn.Module,
        projector: nn.Module,
        normalize: Normalize,
        off_weight: float | None = None,
        unit_length: bool = True,
        per_view: bool = False,
    ):
        super().__init__(backbone, projector, normalize)
        if off_weight is not None and not 0 <= off_weight < math.inf:
            raise ConfigError(f"BarlowTwins: off_weight must be finite and not negative, or None for 5 / D; got {off_weight}.")
        self.off_weight = off_weight
        self.unit_length = unit_length
        self.per_view = per_view

    def loss(self, embeddings: Tensor) -> tuple[Tensor, Logs]:
        """Loss of (B, V, D) embeddings; logs its two terms without weight."""
        off_weight = small_projector_off_weight(embeddings.shape[2]) if self.off_weight is None else self.off_weight
        loss, on, off = barlow_twins_loss(embeddings, off_weight, self.unit_length, self.per_view)
        return loss, {"on_diagonal": on.detach(), "off_diagonal": off.detach()}
