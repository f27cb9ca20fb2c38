"""EMP-SSL: spread the embeddings of each view over the batch, pull the patches of one image together."""

import math

import torch
from torch import Tensor, nn

from ffcv_ssl.errors import ConfigError
from ffcv_ssl.ssl.heads import EmpProjector
from ffcv_ssl.ssl.methods.method import Logs, Method, Normalize
from ffcv_ssl.ssl.methods.unit import unit


def total_coding_rate(z: Tensor, eps_sq: float) -> Tensor:
    """Half the log-determinant of I + d / (b eps²) ZᵀZ: the volume that a set of vectors fills. To be maximised.

    By Sylvester's identity the b x b Gram matrix has the same determinant as the d x d one; the smaller is factored.

    Parameters
    ----------
    z
        (..., b, d) float32 or float64: `b` vectors of length `d`.
    eps_sq
        ε² > 0, the squared distortion. Released code and paper agree on 0.2.

    Returns
    -------
    (...,), nats; NaN where `z` holds NaN (no exception and no host synchronisation).

    References
    ----------
    Tong et al., arXiv 2304.03977; Yu et al., arXiv 2006.08558.
    """
    b, d = z.shape[-2:]
    gram = z @ z.mT if b <= d else z.mT @ z
    eye = torch.eye(min(b, d), dtype=z.dtype, device=z.device)
    factor, _ = torch.linalg.cholesky_ex(eye + (d / (b * eps_sq)) * gram)
    return factor.diagonal(dim1=-2, dim2=-1).log().sum(dim=-1)


def largest_coding_rate(b: int, d: int, eps_sq: float) -> float:
    """The coding rate of `b` unit vectors of length `d` spread as evenly as can be."""
    rank = min(b, d)
    return 0.5 * rank * math.log1p(d / (rank * eps_sq))


def norm_of_mean(z: Tensor) -> Tensor:
    """Length of the mean of each image's unit vectors, averaged over images; 1 when all views agree.

    Equal to the mean cosine between a view and the mean of the views, gradient included.

    Parameters
    ----------
    z
        (B, V, D), unit length along the last axis.
    """
    return torch.linalg.vector_norm(z.mean(dim=1), dim=1).mean()


def emp_ssl_loss(embeddings: Tensor, invariance: float, eps_sq: float) -> tuple[Tensor, Tensor, Tensor]:
    """EMP-SSL's loss, to be minimised: -(mean coding rate per view) - invariance x (norm of the mean).

    Parameters
    ----------
    embeddings
        (B, V, D) floating point; normalized here.
    invariance
        Weight λ of the second term; 200 is balanced for batches of 100 images.
    eps_sq
        See `total_coding_rate`.

    Returns
    -------
    Three scalars: the loss, the mean coding rate and the norm of the mean.
    """
    z = unit(embeddings)
    rate = total_coding_rate(z.transpose(0, 1), eps_sq).mean()
    agreement = norm_of_mean(z)
    return -rate - invariance * agreement, rate, agreement


class EmpSSL(Method):
    """EMP-SSL: many small patches of each image.

    Parameters
    ----------
    backbone, normalize
        See `Method`.
    projector
        An `EmpProjector`; its `pre_feature` serves the bag of patches.
    invariance, eps_sq
        See `emp_ssl_loss`.
    """

    projector: EmpProjector

    def __init__(
        self,
        backbone: nn.Module,
        projector: EmpProjector,
        normalize: Normalize,
        invariance: float = 200.0,
        eps_sq: float = 0.2,
    ):
        super().__init__(backbone, projector, normalize)
        if not eps_sq > 0:
            raise ConfigError(f"EMP-SSL: eps_sq is a squared distortion, above 0, got {eps_sq}.")
        self.invariance = invariance
        self.eps_sq = eps_sq

    def loss(self, embeddings: Tensor) -> tuple[Tensor, Logs]:
        """Loss of (B, V, D) embeddings; logs the coding rate, its share of the possible, and the norm of the mean."""
        loss, rate, agreement = emp_ssl_loss(embeddings, self.invariance, self.eps_sq)
        largest = largest_coding_rate(embeddings.shape[0], embeddings.shape[2], self.eps_sq)
        return loss, {"coding_rate": rate.detach(), "coding_rate_share": rate.detach() / largest, "norm_of_mean": agreement.detach()}

    def patch_features(self, patches: Tensor) -> Tensor:
        """Map (N, 3, H, W) patches to the (N, hidden) output of `pre_feature`, which EMP-SSL's evaluation averages over patches."""
        return self.projector.pre_feature(self.features(patches))

    @property
    def num_patch_features(self) -> int:
        """Length of what `patch_features` returns."""
        return self.projector.pre_feature[0].out_features  # type: ignore[index, union-attr, return-value]
