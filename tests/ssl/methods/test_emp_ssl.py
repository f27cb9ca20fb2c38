"""EMP-SSL's loss against a float64 determinant."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from ffcv_ssl.errors import ConfigError
from ffcv_ssl.ssl import (
    EmpProjector,
    EmpSSL,
    Normalize,
    emp_ssl_loss,
    largest_coding_rate,
    resnet18,
    total_coding_rate,
)


def naive_loss(embeddings, invariance, eps_sq):
    """Compute the released code's form in float64, with d x d determinants."""
    b, num_views, d = embeddings.shape
    z = [F.normalize(embeddings[:, v], dim=1) for v in range(num_views)]
    mean = sum(z) / num_views
    rates, cosines = [], []
    for view in z:
        outer = sum(row[:, None] * row[None, :] for row in view)
        rates.append(0.5 * torch.logdet(torch.eye(d, dtype=view.dtype) + d / (b * eps_sq) * outer))
        cosines.append(sum(F.cosine_similarity(view[i], mean[i], dim=0) for i in range(b)) / b)
    return -sum(rates) / num_views - invariance * sum(cosines) / num_views


@pytest.mark.parametrize(("b", "d"), [(6, 9), (9, 6), (5, 5)])
def test_emp_ssl_loss__equals_naive_loop(b, d):
    """Value and gradient match the float64 loop for B < D, B = D and B > D."""
    torch.manual_seed(0)
    embeddings = torch.randn(b, 4, d, dtype=torch.float64, requires_grad=True)
    twin = embeddings.detach().clone().requires_grad_()
    loss, _, _ = emp_ssl_loss(embeddings, 200.0, 0.2)
    expected = naive_loss(twin, 200.0, 0.2)
    loss.backward()
    expected.backward()
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(embeddings.grad, twin.grad)


def test_emp_ssl_loss__float32_keeps_its_precision():
    """At the recipe's size (100 x 1024) float32 matches float64: value 1e-5, gradient 1e-4."""
    torch.manual_seed(0)
    embeddings = torch.randn(100, 3, 1024) + 2 * torch.randn(100, 1, 1024)
    single = embeddings.clone().requires_grad_()
    double = embeddings.double().requires_grad_()
    loss, expected = emp_ssl_loss(single, 200.0, 0.2)[0], emp_ssl_loss(double, 200.0, 0.2)[0]
    loss.backward()
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert (single.grad - double.grad).norm() < 1e-4 * double.grad.norm()


def test_emp_ssl_loss__is_minimized_by_spread_and_agreement():
    """Spread, agreeing embeddings have a lower loss than collapsed and than disagreeing ones."""
    torch.manual_seed(0)
    spread = torch.randn(50, 1, 64).expand(50, 4, 64)
    collapsed = torch.ones(50, 4, 64)
    disagreeing = torch.randn(50, 4, 64)
    best, worse, worst = (
        emp_ssl_loss(z, 200.0, 0.2)[0].item() for z in (spread, collapsed, disagreeing)
    )
    assert best < worse < worst


def test_emp_ssl_loss__gradient_descent_spreads_the_embeddings():
    """Gradient descent raises the coding rate and lowers the loss: the sign is right."""
    torch.manual_seed(0)
    embeddings = (torch.ones(20, 3, 16) + 0.3 * torch.randn(20, 3, 16)).requires_grad_()
    optimizer = torch.optim.SGD([embeddings], lr=0.05)
    history = []
    for _ in range(10):
        loss, rate, _ = emp_ssl_loss(embeddings, 1.0, 0.2)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.append((loss.item(), rate.item()))
    assert history[-1][0] < history[0][0]
    assert history[-1][1] > history[0][1]


def test_emp_ssl_loss__is_finite_for_degenerate_embeddings():
    """Identical, zero and opposite embeddings give a finite loss and gradient."""
    for embeddings in (
        torch.ones(10, 3, 32),
        torch.zeros(10, 3, 32),
        torch.stack([torch.ones(10, 32), -torch.ones(10, 32)], dim=1),
    ):
        leaf = embeddings.clone().requires_grad_()
        loss, _, _ = emp_ssl_loss(leaf, 200.0, 0.2)
        loss.backward()
        assert loss.isfinite()
        assert leaf.grad.isfinite().all()


def test_total_coding_rate__nan_in_nan_out():
    """NaN embeddings give a NaN rate, not an exception: the training loop reports it."""
    assert total_coding_rate(torch.full((4, 8), torch.nan), 0.2).isnan()


@pytest.mark.parametrize(
    ("b", "d", "expected"),
    [(50, 1024, 116), (100, 1024, 197.8), (200, 1024, 328), (1024, 1024, 917)],
)
def test_largest_coding_rate__is_reached_by_orthonormal_rows(b, d, expected):
    """The maximum equals the rate of orthonormal rows and the known values of the paper's sizes."""
    assert largest_coding_rate(b, d, 0.2) == pytest.approx(expected, rel=2e-3)
    assert total_coding_rate(torch.eye(d, dtype=torch.float64)[:b], 0.2).item() == pytest.approx(
        largest_coding_rate(b, d, 0.2)
    )


def test_emp_ssl__patch_features_come_from_pre_feature():
    """`patch_features` returns the rectified output of `pre_feature`, of the given width."""
    torch.manual_seed(0)
    network = resnet18(width=4, stem="cifar")
    method = EmpSSL(
        network,
        EmpProjector(network.num_features, hidden=24, out=8),
        Normalize([127.5] * 3, [127.5] * 3),
    )
    loss, logs = method(torch.randint(0, 256, (4, 3, 3, 16, 16), dtype=torch.uint8))
    features = method.patch_features(torch.randint(0, 256, (6, 3, 16, 16), dtype=torch.uint8))
    assert features.shape == (6, 24)
    assert (features >= 0).all()
    assert loss.isfinite()
    assert 0 <= logs["coding_rate_share"].item() <= 1


def test_emp_ssl__refuses_bad_eps_sq():
    """A negative `eps_sq` raises a ConfigError."""
    with pytest.raises(ConfigError, match="must be > 0, got -1"):
        EmpSSL(nn.Identity(), EmpProjector(4, 8, 4), Normalize([0.0] * 3, [1.0] * 3), eps_sq=-1)
