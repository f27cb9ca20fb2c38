"""The Barlow Twins loss against a float64 loop over features, and the method."""

import pytest
import torch
from torch import nn

from ffcv_ssl.errors import ConfigError
from ffcv_ssl.ssl import (
    BarlowTwins,
    Normalize,
    barlow_twins_loss,
    mlp,
    resnet18,
    small_projector_off_weight,
)

EPS = 1e-5


def standardized_columns(embeddings, unit_length, per_view):
    """Return columns[v][k], the B standardized values of feature k in view v."""
    num_images, num_views, num_features = embeddings.shape
    x = embeddings
    if unit_length:
        rows = [
            [x[b, v] / x[b, v].pow(2).sum().sqrt() * num_features**0.5 for v in range(num_views)]
            for b in range(num_images)
        ]
        x = torch.stack([torch.stack(row) for row in rows])
    columns = [[None] * num_features for _ in range(num_views)]
    for k in range(num_features):
        for v in range(num_views):
            pool = x[:, v, k] if per_view else torch.cat([x[:, u, k] for u in range(num_views)])
            mean = pool.sum() / len(pool)
            variance = (pool - mean).pow(2).sum() / len(pool)
            columns[v][k] = (x[:, v, k] - mean) / (variance + EPS).sqrt()
    return columns


def naive_loss(embeddings, off_weight, unit_length=True, per_view=False):
    """Compute one correlation at a time, in the two-view or the mean-view form."""
    num_images, num_views, num_features = embeddings.shape
    z = standardized_columns(embeddings, unit_length, per_view)
    mean = [sum(z[v][k] for v in range(num_views)) / num_views for k in range(num_features)]
    on, off = [], []
    for v in range(num_views):
        other = z[1 - v] if num_views == 2 else mean
        against = z[v] if num_views == 2 else mean
        for k in range(num_features):
            on.append((z[v][k] @ other[k] / num_images - 1) ** 2)
            off += [
                (against[k] @ other[m] / num_images) ** 2 for m in range(num_features) if m != k
            ]
    return (sum(on) + off_weight * sum(off)) / num_views


@pytest.mark.parametrize("num_views", [2, 4])
@pytest.mark.parametrize(("b", "d"), [(6, 3), (3, 6), (4, 4)])
@pytest.mark.parametrize(
    ("unit_length", "per_view"), [(True, False), (False, False), (False, True)]
)
def test_barlow_twins_loss__equals_naive_loop(num_views, b, d, unit_length, per_view):
    """Value and gradient match the float64 loop for B < D, B = D and B > D."""
    torch.manual_seed(0)
    # Views with different means, so that shared and separate statistics differ.
    offset = torch.arange(num_views, dtype=torch.float64)[:, None]
    embeddings = (
        torch.randn(b, num_views, d, dtype=torch.float64) + torch.randn(b, 1, d) + 0.3 * offset
    ).requires_grad_()
    twin = embeddings.detach().clone().requires_grad_()
    loss, on, off = barlow_twins_loss(embeddings, 0.3, unit_length, per_view)
    expected = naive_loss(twin, 0.3, unit_length, per_view)
    loss.backward()
    expected.backward()
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(loss, on + 0.3 * off)
    torch.testing.assert_close(embeddings.grad, twin.grad)


def test_barlow_twins_loss__two_views_is_the_original():
    """The original is `BatchNorm1d` of each view, then the cross-correlation matrix."""
    torch.manual_seed(0)
    embeddings = torch.randn(8, 2, 5, dtype=torch.float64) + torch.randn(8, 1, 5)
    norm = nn.BatchNorm1d(5, affine=False, dtype=torch.float64)
    correlation = norm(embeddings[:, 0]).T @ norm(embeddings[:, 1]) / 8
    squares = (correlation - torch.eye(5, dtype=torch.float64)) ** 2
    expected_on = squares.diagonal().sum()
    loss, on, off = barlow_twins_loss(embeddings, 0.0051, unit_length=False, per_view=True)
    torch.testing.assert_close(on, expected_on)
    torch.testing.assert_close(off, squares.sum() - expected_on)
    torch.testing.assert_close(loss, expected_on + 0.0051 * off)


@pytest.mark.parametrize("num_views", [2, 4])
def test_barlow_twins_loss__is_minimized_by_agreement_and_spread(num_views):
    """Agreeing views of uncorrelated features have the lowest loss, close to 0."""
    spread = torch.linalg.qr(torch.randn(64, 9, generator=torch.Generator().manual_seed(0)))[0]
    spread = (spread - spread.mean(dim=0))[:, None, :8].expand(64, num_views, 8)
    redundant = spread[:, :, :1] + 1e-2 * spread
    shuffled = torch.stack([spread[:, 0].roll(7 * v, dims=0) for v in range(num_views)], dim=1)
    collapsed = torch.ones(64, num_views, 8)
    weight = small_projector_off_weight(8)
    best, *others = [
        barlow_twins_loss(10 * z, weight, unit_length=False)[0].item()
        for z in (spread, redundant, shuffled, collapsed)
    ]
    assert best < 0.5
    assert all(other > best + 1 for other in others)
    on = barlow_twins_loss(10 * spread, weight, unit_length=False)[1]
    assert on.item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("num_views", [2, 4])
def test_barlow_twins_loss__gradient_descent_raises_agreement(num_views):
    """Gradient descent lowers the loss and both of its terms: the signs are right."""
    torch.manual_seed(0)
    embeddings = (
        torch.randn(24, 1, 4) @ torch.randn(4, 6) + torch.randn(24, num_views, 6)
    ).requires_grad_()
    optimizer = torch.optim.SGD([embeddings], lr=3.0)
    history = []
    for _ in range(30):
        terms = barlow_twins_loss(embeddings, 1.0)
        optimizer.zero_grad()
        terms[0].backward()
        optimizer.step()
        history.append([term.item() for term in terms])
    assert all(last < first for first, last in zip(history[0], history[-1], strict=True))


@pytest.mark.parametrize("num_views", [2, 4])
@pytest.mark.parametrize("unit_length", [True, False])
@pytest.mark.parametrize("per_view", [True, False])
def test_barlow_twins_loss__is_finite_for_degenerate_embeddings(num_views, unit_length, per_view):
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
        loss, _, _ = barlow_twins_loss(leaf, 0.1, unit_length, per_view)
        loss.backward()
        assert loss.isfinite()
        assert leaf.grad.isfinite().all()
        assert leaf.grad.abs().max() < 1e4


def test_barlow_twins_loss__float32_keeps_its_precision():
    """At the recipe's size (128 x 4 x 256) float32 matches float64: value 1e-5, gradient 1e-4."""
    torch.manual_seed(0)
    embeddings = torch.randn(128, 4, 256) + 2 * torch.randn(128, 1, 256)
    single = embeddings.clone().requires_grad_()
    double = embeddings.double().requires_grad_()
    loss, expected = barlow_twins_loss(single, 0.01)[0], barlow_twins_loss(double, 0.01)[0]
    loss.backward()
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert (single.grad - double.grad).norm() < 1e-4 * double.grad.norm()


def small_barlow_twins(**options):
    torch.manual_seed(0)
    network = resnet18(width=4, stem="cifar")
    return BarlowTwins(
        network,
        mlp([network.num_features, 16, 8], batch_norm=True),
        Normalize([127.5] * 3, [127.5] * 3),
        **options,
    )


def test_barlow_twins__loss_is_float32_under_autocast():
    """Under bfloat16 autocast loss and logs are float32, close to the float32 run, and detached."""
    method = small_barlow_twins()
    views = torch.randint(0, 256, (8, 3, 3, 16, 16), dtype=torch.uint8)
    plain, _ = method(views)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed, logs = method(views)
    assert mixed.dtype == torch.float32
    assert mixed.item() == pytest.approx(plain.item(), rel=0.1)
    assert {name: (term.dtype, term.requires_grad) for name, term in logs.items()} == {
        "on_diagonal": (torch.float32, False),
        "off_diagonal": (torch.float32, False),
    }


def test_barlow_twins__default_weight_is_five_over_d():
    """The default weight is 5 / D of the given embeddings; a weight of 0 is valid."""
    embeddings = torch.randn(6, 2, 10)
    loss, logs = small_barlow_twins().loss(embeddings)
    torch.testing.assert_close(loss, logs["on_diagonal"] + 0.5 * logs["off_diagonal"])
    loss, logs = small_barlow_twins(off_weight=0.0).loss(embeddings)
    torch.testing.assert_close(loss, logs["on_diagonal"])


def test_barlow_twins__passes_its_options_on():
    """The method passes `unit_length` and `per_view` to the loss."""
    embeddings = torch.randn(6, 2, 10) + torch.tensor([0.0, 1.0])[:, None]
    for options in ({"unit_length": False}, {"per_view": True}):
        expected = barlow_twins_loss(embeddings, 0.2, **options)[0]
        torch.testing.assert_close(
            small_barlow_twins(off_weight=0.2, **options).loss(embeddings)[0], expected
        )
        assert expected.item() != pytest.approx(
            barlow_twins_loss(embeddings, 0.2)[0].item(), rel=1e-3
        )


def test_barlow_twins__refuses_bad_arguments():
    """One view, one image, or a negative or infinite weight raises a ConfigError."""
    for shape in ((4, 1, 8), (1, 2, 8)):
        with pytest.raises(ConfigError, match="2 views of 2 images"):
            small_barlow_twins().loss(torch.randn(shape))
    for off_weight in (-0.1, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match="off_weight"):
            small_barlow_twins(off_weight=off_weight)


@pytest.mark.parametrize("num_views", [2, 4])
def test_barlow_twins__training_lowers_the_loss(num_views):
    """Fifteen steps on noisy views of 16 random images lower the loss by a third."""
    method = small_barlow_twins()
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
