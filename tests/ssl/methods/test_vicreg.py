"""VICReg's loss against a float64 loop over views and features, and the method."""

import pytest
import torch

from ffcv_ssl.errors import ConfigError
from ffcv_ssl.ssl import Normalize, VICReg, mlp, resnet18, vicreg_loss


def naive_hinge(x):
    """Compute the mean over features of max(0, 1 - standard deviation), one feature at a time."""
    num_images, num_features = x.shape
    terms = []
    for k in range(num_features):
        mean = x[:, k].sum() / num_images
        deviation = ((x[:, k] - mean).pow(2).sum() / (num_images - 1) + 1e-4).sqrt()
        terms.append(torch.clamp(1 - deviation, min=0))
    return sum(terms) / num_features


def naive_covariance(x):
    """Sum the squared covariances of different features over D, one pair at a time."""
    num_images, num_features = x.shape
    centered = [x[:, k] - x[:, k].sum() / num_images for k in range(num_features)]
    pairs = [(k, m) for k in range(num_features) for m in range(num_features) if k != m]
    return sum((centered[k] @ centered[m] / (num_images - 1)) ** 2 for k, m in pairs) / num_features


def naive_terms(views):
    """Compute the terms of a list of (B, D) views, each view against the mean of the others."""
    totals = [0.0, 0.0, 0.0]
    for v, view in enumerate(views):
        rest = [other for u, other in enumerate(views) if u != v]
        other = sum(rest) / len(rest)
        totals[0] += (
            sum((a - b) ** 2 for a, b in zip(view.flatten(), other.flatten(), strict=True))
            / view.numel()
        )
        totals[1] += naive_hinge(view) / 2 + naive_hinge(other) / 2
        totals[2] += naive_covariance(view) + naive_covariance(other)
    return [total / len(views) for total in totals]


@pytest.mark.parametrize("num_views", [2, 3, 4])
@pytest.mark.parametrize(("b", "d"), [(6, 3), (3, 6), (4, 4)])
def test_vicreg_loss__equals_naive_loop(num_views, b, d):
    """Terms and gradient match the float64 loop for B < D, B = D and B > D."""
    torch.manual_seed(0)
    scales = torch.linspace(0.2, 2, d)  # deviations on both sides of the hinge
    embeddings = (
        scales * (torch.randn(b, 1, d, dtype=torch.float64) + 0.5 * torch.randn(b, num_views, d))
    ).requires_grad_()
    twin = embeddings.detach().clone().requires_grad_()
    loss, *terms = vicreg_loss(embeddings, 25.0, 10.0, 2.0)
    expected = naive_terms(list(twin.unbind(dim=1)))
    total = 25.0 * expected[0] + 10.0 * expected[1] + 2.0 * expected[2]
    loss.backward()
    total.backward()
    assert 0 < expected[1] < 1
    torch.testing.assert_close(terms, expected)
    torch.testing.assert_close(loss, total)
    torch.testing.assert_close(embeddings.grad, twin.grad)


def test_vicreg_loss__two_views_is_the_original():
    """For V = 2 it is the published two-view loss: half of the hinges, the whole covariances."""
    torch.manual_seed(0)
    first, second = torch.randn(2, 6, 4, dtype=torch.float64)
    _, invariance, variance, covariance = vicreg_loss(
        torch.stack([first, second], dim=1), 25.0, 25.0, 1.0
    )
    torch.testing.assert_close(invariance, torch.nn.functional.mse_loss(first, second))
    torch.testing.assert_close(
        variance, sum(torch.relu(1 - (x.var(0) + 1e-4).sqrt()).mean() for x in (first, second)) / 2
    )
    matrices = [torch.cov(x.T) for x in (first, second)]
    torch.testing.assert_close(
        covariance, sum((c - c.diag().diag()).pow(2).sum() / 4 for c in matrices)
    )


@pytest.mark.parametrize("num_views", [2, 4])
def test_vicreg_loss__is_minimized_by_agreement_and_spread(num_views):
    """Agreeing views of uncorrelated features of variance 1 give 0; all others give more."""
    basis = torch.cat(
        [torch.ones(64, 1), torch.randn(64, 8, generator=torch.Generator().manual_seed(0))], dim=1
    )
    features = 8 * torch.linalg.qr(basis)[0][:, 1:]  # mean 0, variance 64 / 63
    spread = features[:, None].expand(64, num_views, 8)
    redundant = spread[:, :, :1].expand(64, num_views, 8)
    shuffled = torch.stack([spread[:, 0].roll(7 * v, dims=0) for v in range(num_views)], dim=1)
    collapsed = torch.ones(64, num_views, 8)
    best, *others = [
        vicreg_loss(z, 25.0, 25.0, 1.0)[0].item() for z in (spread, redundant, shuffled, collapsed)
    ]
    assert best == pytest.approx(0, abs=1e-4)
    assert all(other > 1 for other in others)


@pytest.mark.parametrize("num_views", [2, 4])
def test_vicreg_loss__gradient_descent_lowers_every_term(num_views):
    """Gradient descent lowers all three terms: the signs are right."""
    torch.manual_seed(0)
    embeddings = (
        torch.randn(24, 1, 2) @ torch.randn(2, 6) / 2 + 0.4 * torch.randn(24, num_views, 6)
    ).requires_grad_()
    optimizer = torch.optim.SGD([embeddings], lr=2.0)
    history = []
    for _ in range(30):
        terms = vicreg_loss(embeddings, 5.0, 5.0, 1.0)
        optimizer.zero_grad()
        terms[0].backward()
        optimizer.step()
        history.append([term.item() for term in terms])
    assert all(last < first for first, last in zip(history[0], history[-1], strict=True))


@pytest.mark.parametrize("num_views", [2, 4])
def test_vicreg_loss__is_finite_for_degenerate_embeddings(num_views):
    """Loss and gradient are finite and small for two images, constant features and zeros."""
    torch.manual_seed(0)
    one_constant = torch.randn(6, num_views, 5)
    one_constant[:, :, 2] = 3.7
    for embeddings in (
        torch.randn(2, num_views, 16),
        one_constant,
        torch.full((6, num_views, 5), 3.7),
        torch.zeros(2, num_views, 3),
    ):
        leaf = embeddings.clone().requires_grad_()
        loss, _, _, _ = vicreg_loss(leaf, 25.0, 25.0, 1.0)
        loss.backward()
        assert loss.isfinite()
        assert leaf.grad.isfinite().all()
        assert leaf.grad.abs().max() < 1e4


def test_vicreg_loss__float32_keeps_its_precision():
    """At the recipe's size (128 x 4 x 256) float32 matches float64: value 1e-5, gradient 1e-4."""
    torch.manual_seed(0)
    embeddings = 0.3 * torch.randn(128, 4, 256) + 0.5 * torch.randn(128, 1, 256)
    single = embeddings.clone().requires_grad_()
    double = embeddings.double().requires_grad_()
    loss, expected = (
        vicreg_loss(single, 25.0, 25.0, 1.0)[0],
        vicreg_loss(double, 25.0, 25.0, 1.0)[0],
    )
    loss.backward()
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert (single.grad - double.grad).norm() < 1e-4 * double.grad.norm()


def small_vicreg(**options):
    torch.manual_seed(0)
    network = resnet18(width=4, stem="cifar")
    return VICReg(
        network,
        mlp([network.num_features, 16, 8], batch_norm=True),
        Normalize([127.5] * 3, [127.5] * 3),
        **options,
    )


def test_vicreg__loss_is_float32_under_autocast():
    """Under bfloat16 autocast loss and logs are float32, close to the float32 run, and detached."""
    method = small_vicreg()
    views = torch.randint(0, 256, (8, 3, 3, 16, 16), dtype=torch.uint8)
    plain, _ = method(views)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed, logs = method(views)
    assert mixed.dtype == torch.float32
    assert mixed.item() == pytest.approx(plain.item(), rel=0.1)
    assert list(logs) == ["invariance", "variance", "covariance"]
    assert all(term.dtype == torch.float32 and not term.requires_grad for term in logs.values())


def test_vicreg__weights_reach_their_terms():
    """The loss is the weighted sum of the logged terms; the defaults are 25, 25 and 1."""
    embeddings = 0.3 * torch.randn(6, 3, 10)
    for options, weights in (
        ({}, (25, 25, 1)),
        ({"invariance": 2.0, "variance": 3.0, "covariance": 0.0}, (2, 3, 0)),
    ):
        loss, logs = small_vicreg(**options).loss(embeddings)
        torch.testing.assert_close(
            loss, sum(weight * term for weight, term in zip(weights, logs.values(), strict=True))
        )


def test_vicreg__refuses_bad_arguments():
    """One view, one image, or a negative or infinite weight raises a ConfigError."""
    for shape in ((4, 1, 8), (1, 2, 8)):
        with pytest.raises(ConfigError, match="2 views of 2 images"):
            small_vicreg().loss(torch.randn(shape))
    for name in ("invariance", "variance", "covariance"):
        for weight in (-1.0, float("nan"), float("inf")):
            with pytest.raises(ConfigError, match=name):
                small_vicreg(**{name: weight})


@pytest.mark.parametrize("num_views", [2, 4])
def test_vicreg__training_lowers_the_loss(num_views):
    """Fifteen steps on noisy views of 16 random images lower the loss by a third."""
    method = small_vicreg()
    images = torch.randint(0, 256, (16, 1, 3, 8, 8))
    optimizer = torch.optim.Adam(method.parameters(), lr=3e-3)
    history = []
    for _ in range(15):
        views = (
            (images + torch.randint(-20, 21, (16, num_views, 3, 8, 8)))
            .clamp(0, 255)
            .to(torch.uint8)
        )
        loss, _ = method(views)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.append(loss.item())
    assert history[-1] < history[0] * 2 / 3
