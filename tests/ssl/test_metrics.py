"""RankMe, alignment and uniformity of embeddings with a known value."""

import math

import pytest
import torch
from torch.nn import functional as F

from ffcv_ssl.ssl import alignment, rankme, uniformity


def test_rankme__is_the_rank_of_flat_spectra():
    """k equal singular values give k; embeddings on one line give 1."""
    assert rankme(torch.eye(32)) == pytest.approx(32, rel=1e-3)
    assert rankme(torch.eye(32)[:, :5]) == pytest.approx(5, rel=1e-3)
    assert rankme(torch.ones(40, 8)) == pytest.approx(1, rel=1e-3)


def test_alignment__equals_mean_squared_distance():
    """The closed form equals the mean over pairs of views."""
    torch.manual_seed(0)
    embeddings = torch.randn(9, 3, 6)
    z = F.normalize(embeddings, dim=2)
    pairs = [
        (z[:, i] - z[:, j]).square().sum(1).mean() for i in range(3) for j in range(3) if i != j
    ]
    assert alignment(embeddings) == pytest.approx(torch.stack(pairs).mean().item(), rel=1e-5)


def test_uniformity__equals_naive_loop():
    """The value equals the loop over pairs, and collapsed embeddings score 0."""
    torch.manual_seed(0)
    embeddings = torch.randn(12, 5)
    z = F.normalize(embeddings, dim=1)
    terms = [
        math.exp(-2 * (z[i] - z[j]).square().sum().item()) for i in range(12) for j in range(i)
    ]
    assert uniformity(embeddings) == pytest.approx(math.log(sum(terms) / len(terms)), rel=1e-5)
    assert uniformity(torch.ones(6, 4)) == pytest.approx(0, abs=1e-6)
