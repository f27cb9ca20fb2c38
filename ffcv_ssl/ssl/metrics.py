"""Numbers that say, without labels, whether embeddings collapse, agree and spread."""

import torch
from torch import Tensor
from torch.nn import functional as F


def rankme(embeddings: Tensor) -> float:
    """Effective rank: exp of the entropy of the normalized singular values; 1 when all embeddings lie on a line.

    Compare only runs of the same method.

    Parameters
    ----------
    embeddings
        (N, D) floating point; the paper takes N = 25,600.

    References
    ----------
    Garrido et al., arXiv 2210.02885.
    """
    singular_values = torch.linalg.svdvals(embeddings.float())
    p = singular_values / singular_values.sum().clamp_min(1e-12) + 1e-7
    return torch.exp(-(p * p.log()).sum()).item()


def alignment(embeddings: Tensor) -> float:
    """Mean squared distance between two views of one image, on the unit sphere; 0 (agreement) to 4.

    Parameters
    ----------
    embeddings
        (B, V, D), V >= 2; normalized here.

    References
    ----------
    Wang and Isola, arXiv 2005.10242.
    """
    num_views = embeddings.shape[1]
    norm_of_mean = F.normalize(embeddings.float(), dim=2).mean(dim=1).norm(dim=1)
    return (2 * num_views / (num_views - 1) * (1 - norm_of_mean.square())).mean().item()


def uniformity(embeddings: Tensor) -> float:
    """Log of the mean of exp(-2 · squared distance) over pairs, on the unit sphere; 0 when collapsed, lower is more even.

    Parameters
    ----------
    embeddings
        (N, D), N >= 2, of different images; normalized here. N x N / 2 distances are held at once.

    References
    ----------
    Wang and Isola, arXiv 2005.10242.
    """
    return torch.pdist(F.normalize(embeddings.float(), dim=1)).square().mul(-2).exp().mean().log().item()
