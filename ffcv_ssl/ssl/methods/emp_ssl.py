"""EMP-SSL: spread the embeddings of each view, and align the patches of one image."""

import math

import torch
from torch import Tensor, nn

from ffcv_ssl.errors import ConfigError
from ffcv_ssl.ssl.heads import EmpProjector
from ffcv_ssl.ssl.methods.method import Logs, Method, Normalize, unit


def total_coding_rate(z: Tensor, eps_sq: float) -> Tensor:
    """Return the total coding rate, the volume that a set of vectors spans.

    R(Z) = 1/2 * logdet(I + d / (b ε²) ZᵀZ). By Sylvester's determinant identity, the b x b matrix
    ZZᵀ gives the same value as the d x d matrix ZᵀZ; the function factors the smaller one.

    Parameters
    ----------
    z
        (..., b, d) float32 or float64: b vectors of length d, usually of unit length.
    eps_sq
        Squared distortion ε², > 0; 0.2 in the paper and in the released code.

    Returns
    -------
    (...,) in nats, NaN where `z` holds NaN. The function raises no exception for NaN and does not
    synchronize with the host.

    References
    ----------
    Tong et al., arXiv 2304.03977; Yu et al., arXiv 2006.08558.
    """
    b, d = z.shape[-2:]
    gram = z @ z.mT if b <= d else z.mT @ z
    eye = torch.eye(min(b, d), dtype=z.dtype, device=z.device)
    factor, _ = torch.linalg.cholesky_ex(eye + (d / (b * eps_sq)) * gram)
    rate: Tensor = factor.diagonal(dim1=-2, dim2=-1).log().sum(dim=-1)
    return rate


def largest_coding_rate(b: int, d: int, eps_sq: float) -> float:
    """Return the maximum of `total_coding_rate` over all sets of unit vectors.

    Parameters
    ----------
    b
        Number of vectors, >= 1.
    d
        Length of the vectors, >= 1.
    eps_sq
        Squared distortion ε², > 0.

    Returns
    -------
    r / 2 * log(1 + d / (r ε²)) with r = min(b, d), in nats: the coding rate of r equal eigenvalues.
    """
    rank = min(b, d)
    return 0.5 * rank * math.log1p(d / (rank * eps_sq))


def norm_of_mean(z: Tensor) -> Tensor:
    """Return the length of the mean of each image's unit vectors, averaged over images.

    It equals the mean cosine between a view and the mean of all views, including the gradient.

    Parameters
    ----------
    z
        (B, V, D) floating point, unit length along the last axis.

    Returns
    -------
    Scalar, 0 to 1; 1 if all views of each image agree.
    """
    lengths: Tensor = torch.linalg.vector_norm(z.mean(dim=1), dim=1)
    return lengths.mean()


def emp_ssl_loss(
    embeddings: Tensor, invariance: float, eps_sq: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return EMP-SSL's loss: -(mean coding rate per view) - invariance * (norm of the mean).

    Parameters
    ----------
    embeddings
        (B, V, D) float32 or float64. The function normalizes them to unit length.
    invariance
        Weight λ of the second term, >= 0; 200 suits batches of 100 images.
    eps_sq
        Squared distortion ε², > 0; see `total_coding_rate`.

    Returns
    -------
    Three scalars: the loss, to be minimized, the mean of `total_coding_rate` over views, and
    `norm_of_mean`.

    References
    ----------
    Tong et al., arXiv 2304.03977, and the released code.

    Examples
    --------
    >>> import torch
    >>> spread = torch.eye(4)[:, None].expand(4, 3, 4)  # 4 orthogonal images, 3 views that agree
    >>> loss, rate, agreement = emp_ssl_loss(spread, invariance=200.0, eps_sq=0.2)
    >>> round(rate.item(), 2), round(largest_coding_rate(4, 4, eps_sq=0.2), 2)
    (3.58, 3.58)
    >>> round(agreement.item(), 2)
    1.0
    """
    z = unit(embeddings)
    rate = total_coding_rate(z.transpose(0, 1), eps_sq).mean()
    agreement = norm_of_mean(z)
    return -rate - invariance * agreement, rate, agreement


class EmpSSL(Method):
    """EMP-SSL: many small patches of each image; the loss is `emp_ssl_loss`.

    Parameters
    ----------
    backbone
        Module that maps (N, 3, H, W) images to (N, num_features) features.
    projector
        An `EmpProjector`. `patch_features` returns the output of its `pre_feature`.
    normalize
        Normalization of uint8 images.
    invariance
        Weight λ of the second term of the loss.
    eps_sq
        Squared distortion ε², > 0.

    Raises
    ------
    ConfigError
        If `eps_sq` is not positive.

    References
    ----------
    Tong et al., arXiv 2304.03977.

    Examples
    --------
    >>> import torch
    >>> from ffcv_ssl.ssl import EmpProjector, EmpSSL, Normalize, resnet18
    >>> network = resnet18(width=4, stem="cifar_stride2")
    >>> projector = EmpProjector(network.num_features, hidden=16, out=8)
    >>> method = EmpSSL(network, projector, Normalize([127.5] * 3, [127.5] * 3))
    >>> views = torch.randint(0, 256, (4, 5, 3, 16, 16), dtype=torch.uint8)
    >>> loss, logs = method(views)
    >>> loss.shape, list(logs)
    (torch.Size([]), ['coding_rate', 'coding_rate_share', 'norm_of_mean'])
    >>> method.patch_features(views[0]).shape
    torch.Size([5, 16])
    """

    projector: EmpProjector

    def __init__(
        self,
        backbone: nn.Module,
        projector: EmpProjector,
        normalize: Normalize,
        invariance: float = 200.0,
        eps_sq: float = 0.2,
    ) -> None:
        super().__init__(backbone, projector, normalize)
        if not eps_sq > 0:
            raise ConfigError(
                f"EMP-SSL: eps_sq, the squared distortion, must be > 0, got {eps_sq}."
            )
        self.invariance = invariance
        self.eps_sq = eps_sq

    def loss(self, embeddings: Tensor) -> tuple[Tensor, Logs]:
        """Return the loss, the coding rate and the agreement of the views.

        Parameters
        ----------
        embeddings
            (B, V, D) float32 or float64.

        Returns
        -------
        The scalar loss, and the logs "coding_rate", "coding_rate_share" (the coding rate divided by
        `largest_coding_rate`) and "norm_of_mean".
        """
        loss, rate, agreement = emp_ssl_loss(embeddings, self.invariance, self.eps_sq)
        num_images, _, num_features = embeddings.shape
        largest = largest_coding_rate(num_images, num_features, self.eps_sq)
        return loss, {
            "coding_rate": rate.detach(),
            "coding_rate_share": rate.detach() / largest,
            "norm_of_mean": agreement.detach(),
        }

    def patch_features(self, patches: Tensor) -> Tensor:
        """Map patches to the features that EMP-SSL's evaluation averages over the patches.

        Parameters
        ----------
        patches
            (N, 3, H, W) uint8, or normalized floating point.

        Returns
        -------
        (N, num_patch_features), the output of the projector's `pre_feature`.
        """
        features: Tensor = self.projector.pre_feature(self.features(patches))
        return features

    @property
    def num_patch_features(self) -> int:
        """Length of the vectors that `patch_features` returns."""
        return self.projector.pre_feature[0].out_features  # type: ignore[return-value]  # nn.Linear
