"""Barlow Twins: correlate each feature with itself across views, and with no other feature."""

import math

import torch
from torch import Tensor, nn

from ffcv_ssl.errors import ConfigError
from ffcv_ssl.ssl.methods.method import Logs, Method, Normalize, unit

# Added to a feature's variance; the default of `BatchNorm1d`, with which the original standardizes.
VARIANCE_EPS = 1e-5


def small_projector_off_weight(num_features: int) -> float:
    """Return a weight of the off-diagonal term for small projectors: 5 / D.

    The rule fits the released sweep of two views at D = 128, 256 and 512 (0.04, 0.02, 0.01). Use it
    as a starting point for tuning: the best value of the sweep is half of it at D = 64 (0.04),
    nearer 2 / D at D = 1024 to 4096, and half of it with four or eight views at D = 256 (0.01).

    Parameters
    ----------
    num_features
        Length D of the embeddings, >= 1.

    Returns
    -------
    5 / `num_features`.

    References
    ----------
    Sweep scripts of kumarkrishna/fastssl, CIFAR-10.
    """
    return 5 / num_features


def off_diagonal_energy(x: Tensor, y: Tensor) -> Tensor:
    """Return the sum of the squared off-diagonal entries of xᵀy.

    The sum of all squares of xᵀy is the inner product of the Gram matrices xxᵀ and yyᵀ. With fewer
    rows than columns the function uses these smaller matrices (D = 8192, B = 512: 1 MiB instead of
    256 MiB) and subtracts the diagonal. The subtraction loses little precision, because with few
    rows most of the energy is off the diagonal.

    Parameters
    ----------
    x
        (..., B, D) floating point.
    y
        Like `x`; may be the same tensor.

    Returns
    -------
    (...,) with the dtype of `x`.
    """
    num_rows, num_columns = x.shape[-2:]
    if num_rows < num_columns:
        gram = x @ x.mT
        energy = (gram * (gram if y is x else y @ y.mT)).sum(dim=(-2, -1))
        return energy - (x * y).sum(dim=-2).square().sum(dim=-1)
    product = x.mT @ y
    return (product - product.diagonal(dim1=-2, dim2=-1).diag_embed()).square().sum(dim=(-2, -1))


def standardize(embeddings: Tensor, unit_length: bool, per_view: bool) -> Tensor:
    """Shift and scale each feature to mean 0 and variance 1; a constant feature becomes 0.

    The variance is the biased estimate, as in the batch normalization of the original: views that
    agree then have a correlation of exactly 1 for any batch size. fastssl's unbiased estimate gives
    1 - 1 / (V B).

    Parameters
    ----------
    embeddings
        (B, V, D) floating point.
    unit_length
        Whether to scale each embedding to length √D first. Length √D rather than 1 keeps
        `VARIANCE_EPS` small compared with the variance of a feature for any D; otherwise the common
        factor has no effect.
    per_view
        Whether each view has its own mean and variance over B rows. Otherwise all views share those
        over B * V rows.

    Returns
    -------
    (B, V, D) with the dtype of `embeddings`.
    """
    x = unit(embeddings) * math.sqrt(embeddings.shape[2]) if unit_length else embeddings
    axes = 0 if per_view else (0, 1)
    variance, mean = torch.var_mean(x, dim=axes, correction=0, keepdim=True)
    return (x - mean) * (variance + VARIANCE_EPS).rsqrt()


def barlow_twins_loss(
    embeddings: Tensor, off_weight: float, unit_length: bool = True, per_view: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the Barlow Twins loss over two or more views: on-diagonal + weight * off-diagonal.

    Let z_v be the (B, D) standardized embeddings of view v. There are two forms, as in the released
    code of the small-projector paper:

    - V = 2, the original: C = z_1ᵀz_2 / B; on = Σ_k (C_kk - 1)²; off = Σ_{k≠l} C_kl².
    - V > 2, with m the mean of the z_v: on = mean over v of Σ_k ((z_vᵀm / B)_kk - 1)²;
      off = Σ_{k≠l} ((mᵀm / B)_kl)². It needs one D x D product for any V.

    The second form does not reduce to the first for V = 2. There, half of z_vᵀm is the correlation
    of a view with itself, so that the on-diagonal term is about a quarter of the first form's. mᵀm
    also contains the off-diagonal correlations within a view.

    Parameters
    ----------
    embeddings
        (B, V, D) floating point, B >= 2, V >= 2.
    off_weight
        Weight λ of the off-diagonal term, >= 0; see `small_projector_off_weight`. The original uses
        0.0051 for D = 8192.
    unit_length
        Whether to normalize each embedding before the standardization. True in the small-projector
        paper, and its weights assume it; False in the original.
    per_view
        Whether each view is standardized by its own mean and variance, as in the original. By
        default all B * V rows share them, as in the small-projector paper: the estimates are more
        precise, and a shift between views counts as disagreement.

    Returns
    -------
    Three scalars: the loss, to be minimized, and the on-diagonal and off-diagonal terms without
    weight.

    Raises
    ------
    ConfigError
        If there is only one view or only one image.

    References
    ----------
    Zbontar et al., arXiv 2103.03230, equations 1 and 2, and facebookresearch/barlowtwins: these are
    `unit_length=False, per_view=True`. V > 2: kumarkrishna/fastssl, `BarlowTwinLoss`, the third of
    its multi-view forms.
    """
    num_images, num_views, _ = embeddings.shape
    if num_images < 2 or num_views < 2:
        raise ConfigError(
            "Barlow Twins correlates features over images and views; it needs at least 2 views of "
            f"2 images, got {num_views} of {num_images}."
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
    """Barlow Twins for two or more views; the loss is `barlow_twins_loss`.

    Parameters
    ----------
    backbone
        Module that maps (N, 3, H, W) images to (N, num_features) features.
    projector
        Module that maps features to embeddings (N, D).
    normalize
        Normalization of uint8 images.
    off_weight
        Weight of the off-diagonal term, >= 0 and finite. None: `small_projector_off_weight` for the
        length of the embeddings.
    unit_length
        Whether to normalize each embedding first; see `barlow_twins_loss`.
    per_view
        Whether each view is standardized alone; see `barlow_twins_loss`.

    Raises
    ------
    ConfigError
        If `off_weight` is negative or not finite.

    References
    ----------
    Zbontar et al., arXiv 2103.03230.
    """

    def __init__(
        self,
        backbone: nn.Module,
        projector: nn.Module,
        normalize: Normalize,
        off_weight: float | None = None,
        unit_length: bool = True,
        per_view: bool = False,
    ) -> None:
        super().__init__(backbone, projector, normalize)
        if off_weight is not None and not 0 <= off_weight < math.inf:
            raise ConfigError(
                "BarlowTwins: off_weight must be a finite number >= 0, or None for 5 / D; "
                f"got {off_weight}."
            )
        self.off_weight = off_weight
        self.unit_length = unit_length
        self.per_view = per_view

    def loss(self, embeddings: Tensor) -> tuple[Tensor, Logs]:
        """Return the loss and its two terms without weight.

        Parameters
        ----------
        embeddings
            (B, V, D) float32 or float64, B >= 2, V >= 2.

        Returns
        -------
        The scalar loss, and the logs "on_diagonal" and "off_diagonal".

        Raises
        ------
        ConfigError
            If there is only one view or only one image.
        """
        off_weight = self.off_weight
        if off_weight is None:
            off_weight = small_projector_off_weight(embeddings.shape[2])
        loss, on, off = barlow_twins_loss(embeddings, off_weight, self.unit_length, self.per_view)
        return loss, {"on_diagonal": on.detach(), "off_diagonal": off.detach()}
