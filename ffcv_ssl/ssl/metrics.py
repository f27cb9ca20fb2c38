"""Label-free metrics of embeddings: effective rank, alignment and uniformity."""

import torch
from torch import Tensor
from torch.nn import functional as F


def rankme(embeddings: Tensor) -> float:
    """Return the effective rank: the exponential of the entropy of the normalized singular values.

    Values are comparable only between runs of the same method.

    Parameters
    ----------
    embeddings
        (N, D) floating point. The paper uses N = 25,600.

    Returns
    -------
    Between 1 (all embeddings lie on a line through 0) and min(N, D).

    References
    ----------
    Garrido et al., arXiv 2210.02885.

    Examples
    --------
    >>> import torch
    >>> round(rankme(torch.eye(8)), 2)
    8.0
    """
    singular_values = torch.linalg.svdvals(embeddings.float())
    p = singular_values / singular_values.sum().clamp_min(1e-12) + 1e-7
    return float(torch.exp(-(p * p.log()).sum()).item())


def alignment(embeddings: Tensor) -> float:
    """Return the mean squared distance between two views of one image, on the unit sphere.

    Parameters
    ----------
    embeddings
        (B, V, D) floating point, V >= 2. The function normalizes them to unit length.

    Returns
    -------
    Between 0 (the views of each image agree) and 4.

    References
    ----------
    Wang and Isola, arXiv 2005.10242, alignment loss with α = 2; here the mean over all pairs of
    different views.
    """
    num_views = embeddings.shape[1]
    norm_of_mean = F.normalize(embeddings.float(), dim=2).mean(dim=1).norm(dim=1)
    distance = 2 * num_views / (num_views - 1) * (1 - norm_of_mean.square())
    return float(distance.mean().item())


def uniformity(embeddings: Tensor) -> float:
    """Return the log of the mean of exp(-2 * squared distance) over pairs, on the unit sphere.

    The function holds N * (N - 1) / 2 distances in memory at once.

    Parameters
    ----------
    embeddings
        (N, D) floating point, N >= 2, one row per image. The function normalizes them to unit
        length.

    Returns
    -------
    0 when all embeddings coincide; lower values mean a more uniform distribution.

    References
    ----------
    Wang and Isola, arXiv 2005.10242, uniformity loss with t = 2.
    """
    distances = torch.pdist(F.normalize(embeddings.float(), dim=1))
    return distances.square().mul(-2).exp().mean().log().item()
