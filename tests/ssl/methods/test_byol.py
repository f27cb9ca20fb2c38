"""BYOL's loss against a float64 loop, and its target network."""

import copy
import math

import pytest
import torch
from torch import nn

from ffcv_ssl.errors import ConfigError
from ffcv_ssl.ssl import (
    BYOL,
    Normalize,
    byol_loss,
    byol_predictor,
    parameter_groups,
    resnet18,
    simclr_projector,
)


def naive_byol_loss(predictions, targets):
    """Sum squared distances of unit vectors, one image and one ordered pair of views at a time."""
    num_images, num_views, _ = predictions.shape
    distances = []
    for b in range(num_images):
        for v in range(num_views):
            for w in range(num_views):
                if v != w:
                    p, t = predictions[b, v], targets[b, w].detach()
                    distances.append(
                        (p / p.pow(2).sum().sqrt() - t / t.pow(2).sum().sqrt()).pow(2).sum()
                    )
    return 2 * sum(distances) / len(distances)


def small_byol(**options):
    torch.manual_seed(0)
    network = resnet18(width=4, stem="cifar")
    projector = simclr_projector(network.num_features, 16, 8)
    return BYOL(
        network, projector, byol_predictor(8, 16), Normalize([127.5] * 3, [127.5] * 3), **options
    )


def small_views(num_views=2):
    return torch.randint(
        0,
        256,
        (6, num_views, 3, 8, 8),
        dtype=torch.uint8,
        generator=torch.Generator().manual_seed(1),
    )


def target_state(method):
    return {
        key: value.clone()
        for key, value in method.state_dict().items()
        if key.startswith("target_")
    }


@pytest.mark.parametrize("num_views", [2, 3, 5])
def test_byol_loss__equals_naive_loop(num_views):
    """Value and gradient match a float64 loop; the targets get no gradient."""
    torch.manual_seed(0)
    predictions = torch.randn(5, num_views, 7, dtype=torch.float64, requires_grad=True)
    targets = torch.randn(5, num_views, 7, dtype=torch.float64, requires_grad=True)
    twin = predictions.detach().clone().requires_grad_()
    loss, expected = byol_loss(predictions, targets), naive_byol_loss(twin, targets)
    loss.backward()
    expected.backward()
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(predictions.grad, twin.grad)
    assert targets.grad is None


def test_byol_loss__is_the_papers_sum_of_both_directions():
    """For two views the loss is the mean of 2 - 2 cos(p1, t2) + 2 - 2 cos(p2, t1)."""
    torch.manual_seed(0)
    p, t = torch.randn(4, 2, 6, dtype=torch.float64), torch.randn(4, 2, 6, dtype=torch.float64)
    cosines = [nn.functional.cosine_similarity(p[:, v], t[:, 1 - v], dim=1) for v in range(2)]
    torch.testing.assert_close(byol_loss(p, t), (4 - 2 * cosines[0] - 2 * cosines[1]).mean())


def test_byol_loss__is_minimized_by_agreement_across_views():
    """Equal vectors give 0, orthogonal 4, opposite 8; a view's own target does not count."""
    alike = torch.eye(3)[:, None, :].expand(3, 2, 3)
    assert byol_loss(alike, alike).item() == pytest.approx(0, abs=1e-6)
    assert byol_loss(alike, 5 * alike.roll(1, dims=0)).item() == pytest.approx(4)
    assert byol_loss(alike, -2 * alike).item() == pytest.approx(8)
    crossed = torch.stack([torch.eye(3), torch.eye(3).roll(1, dims=0)], dim=1)
    assert byol_loss(crossed, crossed.flip(1)).item() == pytest.approx(0, abs=1e-6)
    assert byol_loss(crossed, crossed).item() == pytest.approx(4)


def test_byol_loss__takes_embeddings_without_direction():
    """Zero vectors count as orthogonal, and the gradient stays bounded."""
    torch.manual_seed(0)
    predictions, targets = torch.randn(4, 2, 6), torch.randn(4, 2, 6)
    predictions[1, 0] = 0
    targets[2, 1] = 0
    predictions.requires_grad_()
    loss = byol_loss(predictions, targets)
    loss.backward()
    assert 0 < loss.item() < 8
    assert 0 < predictions.grad.abs().max() < 10
    assert (predictions.grad[1, 0] == 0).all()
    assert byol_loss(torch.zeros(3, 2, 5), torch.randn(3, 2, 5)).item() == pytest.approx(4)


def test_byol__only_the_online_networks_reach_the_optimizer():
    """Parameter groups hold all online parameters; target parameters get no gradient."""
    method = small_byol()
    online = [
        p
        for part in (method.backbone, method.projector, method.predictor)
        for p in part.parameters()
    ]
    for exclude_1d in (True, False):
        grouped = [
            p for group in parameter_groups(method, 1e-4, exclude_1d) for p in group["params"]
        ]
        assert {id(p) for p in grouped} == {id(p) for p in online}
    loss, _ = method(small_views())
    loss.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in online if p.ndim > 1)
    assert all(
        p.grad is None for name, p in method.named_parameters() if name.startswith("target_")
    )


def test_byol__target_embeddings_come_from_the_target():
    """The loss compares online predictions with embeddings of the target network."""
    method = small_byol()
    views = small_views()
    loss, _ = method(views)
    torch.testing.assert_close(
        loss.detach(), byol_loss(method.predict(views), method.targets(views)).detach()
    )
    predictions, targets = method.predict(views), method.targets(views)
    torch.testing.assert_close(targets, method.embed(views))  # the target is still a copy
    nn.init.normal_(method.target_projector[0].weight)
    assert torch.equal(method.predict(views), predictions)
    assert not torch.allclose(method.targets(views), targets, atol=1e-3)
    nn.init.normal_(method.backbone.conv1.weight)
    assert not torch.allclose(method.predict(views), predictions, atol=1e-3)


@pytest.mark.parametrize("start", [0.0, 0.9, 1.0])
def test_byol__target_is_the_moving_average(start):
    """After five steps every target weight equals the float64 recursion of the moving average."""
    method = small_byol(momentum=start)
    pairs = [("target_backbone", method.backbone), ("target_projector", method.projector)]
    expected = {
        f"{name}.{key}": p.detach().double()
        for name, part in pairs
        for key, p in part.named_parameters()
    }
    first = {key: value.clone() for key, value in expected.items()}
    for step in range(5):
        with torch.no_grad():
            for p in method.parameters():
                if p.requires_grad:
                    p += 0.1 * torch.randn_like(p)
        logs = method.after_step(step / 5)
        momentum = 1 - (1 - start) * (math.cos(math.pi * step / 5) + 1) / 2
        assert logs["momentum"].item() == pytest.approx(momentum, abs=1e-12)
        for name, part in pairs:
            for key, p in part.named_parameters():
                expected[f"{name}.{key}"] = (
                    momentum * expected[f"{name}.{key}"] + (1 - momentum) * p.detach().double()
                )
    found = {key: p for key, p in method.named_parameters() if key.startswith("target_")}
    assert found.keys() == expected.keys()
    for key, p in found.items():
        torch.testing.assert_close(p.double(), expected[key], atol=1e-6, rtol=1e-6)
        assert torch.equal(p.double(), first[key]) == (start == 1.0), key


def test_byol__target_keeps_its_own_batch_statistics():
    """Only the target's own forward passes in training change its running statistics."""
    method = small_byol(momentum=0.0)
    views = small_views()
    before = target_state(method)
    method(views)
    seen = target_state(method)
    assert not torch.equal(
        seen["target_backbone.bn1.running_mean"], before["target_backbone.bn1.running_mean"]
    )
    method.backbone.bn1.running_mean += 1
    method.after_step(0.0)
    assert torch.equal(
        method.target_backbone.bn1.running_mean, seen["target_backbone.bn1.running_mean"]
    )
    method.eval()
    method.features(views[:, 0])
    assert torch.equal(
        method.target_backbone.bn1.running_mean, seen["target_backbone.bn1.running_mean"]
    )


def test_byol__features_are_the_online_backbones():
    """`features` does not depend on target, projector or predictor."""
    method = small_byol().eval()
    images = small_views()[:, 0]
    expected = method.backbone(method.normalize(images))
    for part in (
        method.target_backbone,
        method.target_projector,
        method.projector,
        method.predictor,
    ):
        for p in part.parameters():
            p.data.zero_()
    assert torch.equal(method.features(images), expected)


def test_byol__views_per_forward_holds_for_both_networks():
    """With one view per pass, predictions and targets equal those of separate passes."""
    views = small_views(3)
    views[:, 1] //= 4
    apart, joint = small_byol(), small_byol()
    apart.views_per_forward = 1
    for encode in ("predict", "targets"):
        found = getattr(apart, encode)(views)
        by_hand = torch.stack(
            [getattr(joint, encode)(views[:, v : v + 1])[:, 0] for v in range(3)], dim=1
        )
        torch.testing.assert_close(found, by_hand)
        assert not torch.allclose(found, getattr(joint, encode)(views), atol=1e-3)


def test_byol__loss_is_float32_under_autocast():
    """Under bfloat16 autocast loss and logs are float32; gradients reach the first layer."""
    method = small_byol()
    views = small_views()
    plain, _ = copy.deepcopy(method)(views)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed, logs = method(views)
    assert mixed.dtype == logs["cosine"].dtype == logs["target_variance"].dtype == torch.float32
    assert mixed.item() == pytest.approx(plain.item(), abs=0.1)
    assert mixed.item() != mixed.bfloat16().item()
    mixed.backward()
    assert method.backbone.conv1.weight.grad.abs().sum() > 0


def test_byol__logs_cosine_and_variance_of_the_targets():
    """The log holds the mean cosine, and the variance of the unit targets: 0 if they are equal."""
    method = small_byol()
    loss, logs = method(small_views())
    assert logs["cosine"].item() == pytest.approx(1 - loss.item() / 4, abs=1e-6)
    assert 0.1 < logs["target_variance"].item() <= 1
    assert not any(value.requires_grad for value in logs.values())
    method.target_projector[-1].weight.data.zero_()
    method.target_projector.append(nn.Linear(8, 8))
    method.target_projector[-1].weight.data.zero_()
    assert method(small_views())[1]["target_variance"].item() == pytest.approx(0, abs=1e-6)


def test_byol__refuses_bad_arguments():
    """One view, a bad momentum, or predictions of another width raise a ConfigError."""
    with pytest.raises(ConfigError, match="at least 2 views"):
        small_byol()(small_views(1))
    for momentum in (-0.1, 1.01, math.nan):
        with pytest.raises(ConfigError, match="momentum must be in"):
            small_byol(momentum=momentum)
    with pytest.raises(ConfigError, match=r"one shape, got \(4, 2, 8\) and \(4, 2, 1\)"):
        byol_loss(torch.randn(4, 2, 8), torch.randn(4, 2, 1))
