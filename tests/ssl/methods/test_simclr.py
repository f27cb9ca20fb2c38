"""NT-Xent against a float64 loop, and SimCLR as a method."""

import math

import pytest
import torch
from torch import nn

from ffcv_ssl.errors import ConfigError
from ffcv_ssl.ssl import Normalize, SimCLR, nt_xent, resnet18, simclr_projector


def naive_nt_xent(embeddings, temperature, decoupled=False):
    """Compute NT-Xent one anchor and one positive at a time."""
    num_images, num_views, _ = embeddings.shape
    z = [
        [embeddings[b, v] / embeddings[b, v].pow(2).sum().sqrt() for v in range(num_views)]
        for b in range(num_images)
    ]
    terms = []
    for b in range(num_images):
        for v in range(num_views):
            others = [
                (i, j) for i in range(num_images) for j in range(num_views) if (i, j) != (b, v)
            ]
            candidates = [(i, j) for i, j in others if i != b] if decoupled else others
            denominator = sum((z[b][v] @ z[i][j] / temperature).exp() for i, j in candidates)
            positives = [j for j in range(num_views) if j != v]
            terms.append(
                sum(
                    -((z[b][v] @ z[b][j] / temperature).exp() / denominator).log()
                    for j in positives
                )
                / len(positives)
            )
    return sum(terms) / len(terms)


@pytest.mark.parametrize("num_views", [2, 3])
@pytest.mark.parametrize("temperature", [0.15, 0.5])
@pytest.mark.parametrize("decoupled", [False, True])
def test_nt_xent__equals_naive_loop(num_views, temperature, decoupled):
    """Value and gradient match a float64 loop over anchors and positives."""
    torch.manual_seed(0)
    embeddings = torch.randn(5, num_views, 7, dtype=torch.float64, requires_grad=True)
    twin = embeddings.detach().clone().requires_grad_()
    loss, expected = (
        nt_xent(embeddings, temperature, decoupled),
        naive_nt_xent(twin, temperature, decoupled),
    )
    loss.backward()
    expected.backward()
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(embeddings.grad, twin.grad)


def test_nt_xent__prefers_agreeing_views():
    """Agreeing views of distinct images have a lower loss than collapsed or shuffled views."""
    torch.manual_seed(0)
    distinct = torch.eye(6)[:, None, :].expand(6, 2, 6)
    collapsed = torch.ones(6, 2, 6)
    shuffled = torch.stack([torch.eye(6), torch.eye(6).roll(1, dims=0)], dim=1)
    losses = [nt_xent(z, 0.2).item() for z in (distinct, collapsed, shuffled)]
    assert losses[0] < losses[1] < losses[2]
    assert losses[1] == pytest.approx(math.log(11), rel=1e-5)  # uniform over 2B - 1 candidates


def test_nt_xent__decoupled_counts_other_images_only():
    """Collapsed embeddings give log(V (B - 1)); distinct images that agree give less than 0."""
    distinct = torch.eye(6)[:, None, :].expand(6, 2, 6)
    shuffled = torch.stack([torch.eye(6), torch.eye(6).roll(1, dims=0)], dim=1)
    losses = [
        nt_xent(z, 0.2, decoupled=True).item() for z in (distinct, torch.ones(6, 2, 6), shuffled)
    ]
    assert losses[0] < 0 < losses[1] < losses[2]
    assert losses[0] == pytest.approx(math.log(10) - 1 / 0.2, rel=1e-5)
    assert losses[1] == pytest.approx(math.log(10), rel=1e-5)


def test_nt_xent__decoupled_pull_does_not_fade():
    """Near agreement the gradient of NT-Xent vanishes; that of the decoupled loss does not."""
    torch.manual_seed(0)
    agreeing = torch.eye(4)[:, None, :] + 0.1 * torch.randn(4, 2, 4)
    norms = []
    for decoupled in (False, True):
        leaf = agreeing.clone().requires_grad_()
        nt_xent(leaf, 0.1, decoupled).backward()
        norms.append(leaf.grad.norm().item())
    assert norms[1] > 10 * norms[0]


@pytest.mark.parametrize("decoupled", [False, True])
def test_nt_xent__smallest_batch_and_low_temperature_stay_finite(decoupled):
    """Two images at temperature 0.05, also from bfloat16, give a finite loss and gradient."""
    torch.manual_seed(0)
    embeddings = torch.randn(2, 2, 16).bfloat16().requires_grad_()
    loss = nt_xent(embeddings.float(), 0.05, decoupled)
    loss.backward()
    assert loss.isfinite()
    assert embeddings.grad.isfinite().all()


def small_simclr(**options):
    torch.manual_seed(0)
    network = resnet18(width=4, stem="cifar")
    projector = simclr_projector(network.num_features, 16, 8)
    return SimCLR(network, projector, Normalize([127.5] * 3, [127.5] * 3), **options)


def test_simclr__loss_is_float32_under_autocast():
    """Under bfloat16 autocast the loss is float32 and close to the float32 run."""
    method = small_simclr()
    views = torch.randint(0, 256, (8, 2, 3, 16, 16), dtype=torch.uint8)
    plain, logs = method(views)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed, _ = method(views)
    assert mixed.dtype == torch.float32
    assert mixed.item() == pytest.approx(plain.item(), abs=0.1)
    assert -1 <= logs["positive_cosine"].item() <= 1


def test_simclr__positive_cosine_is_the_mean_between_views():
    """The logged cosine is the mean over pairs of views of one image."""
    torch.manual_seed(0)
    embeddings = torch.randn(6, 3, 5)
    z = nn.functional.normalize(embeddings, dim=2)
    pairs = [(z[:, i] * z[:, j]).sum(1).mean() for i in range(3) for j in range(3) if i != j]
    _, logs = small_simclr().loss(embeddings)
    torch.testing.assert_close(logs["positive_cosine"], torch.stack(pairs).mean())


def test_simclr__refuses_one_view_and_bad_temperature():
    """One view or a temperature of 0 raises a ConfigError."""
    with pytest.raises(ConfigError, match="at least 2 views"):
        small_simclr().loss(torch.randn(4, 1, 8))
    with pytest.raises(ConfigError, match="temperature"):
        small_simclr(temperature=0.0)


def test_simclr__is_coupled_unless_asked():
    """`decoupled` is False by default; a decoupled batch of one image raises a ConfigError."""
    torch.manual_seed(0)
    embeddings = torch.randn(6, 2, 8)
    coupled, decoupled = (
        small_simclr(temperature=0.2, **options).loss(embeddings)[0]
        for options in ({}, {"decoupled": True})
    )
    assert torch.equal(coupled, nt_xent(embeddings, 0.2))
    assert torch.equal(decoupled, nt_xent(embeddings, 0.2, decoupled=True))
    with pytest.raises(ConfigError, match="at least 2 in a batch"):
        small_simclr(decoupled=True).loss(torch.randn(1, 2, 8))


def test_views_per_forward__separates_batch_statistics():
    """With one view per pass each view has its own batch statistics."""
    views = torch.randint(0, 256, (8, 2, 3, 16, 16), dtype=torch.uint8)
    views[:, 1] //= 4
    apart, joint = small_simclr(), small_simclr()
    apart.views_per_forward = 1
    embeddings = apart.embed(views)
    by_hand = torch.stack([joint.embed(views[:, v : v + 1])[:, 0] for v in range(2)], dim=1)
    torch.testing.assert_close(embeddings, by_hand)
    assert not torch.allclose(embeddings, joint.embed(views), atol=1e-3)


def test_normalize__acts_on_bytes_and_leaves_floats():
    """`Normalize` shifts and scales uint8 images and returns floating-point images unchanged."""
    normalize = Normalize([10.0, 20.0, 30.0], [2.0, 4.0, 5.0])
    images = torch.randint(0, 256, (2, 3, 5, 7), dtype=torch.uint8)
    expected = (images.double() - torch.tensor([10.0, 20.0, 30.0]).view(3, 1, 1)) / torch.tensor(
        [2.0, 4.0, 5.0]
    ).view(3, 1, 1)
    torch.testing.assert_close(normalize(images).double(), expected, atol=1e-5, rtol=1e-5)
    floats = torch.randn(2, 3, 5, 7)
    assert torch.equal(normalize(floats), floats)
