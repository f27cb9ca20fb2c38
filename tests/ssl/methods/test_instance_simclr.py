"""Instance-level SimCLR against a naive float64 loop, and its noise in gray levels."""

import pytest
import torch
from torch import nn

from ffcv_ssl.errors import ConfigError
from ffcv_ssl.ssl import GaussianNoise, InstanceSimCLR, Normalize, resnet18, simclr_projector

CIFAR = ([125.31, 122.95, 113.87], [62.99, 62.09, 66.70])


class Pixels(nn.Module):
    """A backbone whose features are pixels."""

    def forward(self, images):
        return images.flatten(1)


def linear_method(temperature=0.5, noise=16.0, views_per_forward=0):
    """Build a method with a linear network on pixels."""
    torch.manual_seed(0)
    normalize = Normalize([0.0] * 3, [64.0] * 3)
    method = InstanceSimCLR(Pixels(), nn.Linear(12, 5), normalize, temperature, noise)
    method.views_per_forward = views_per_forward
    return method


def naive_loss(copies, temperature):
    """Compute NT-Xent of (B, V, 2, D) copies, image by image and anchor by anchor."""
    images = []
    for patches in copies:
        z = [copy / copy.pow(2).sum().sqrt() for patch in patches for copy in patch]
        terms = []
        for i, anchor in enumerate(z):
            others = [j for j in range(len(z)) if j != i]
            denominator = sum((anchor @ z[j] / temperature).exp() for j in others)
            terms.append(-((anchor @ z[i ^ 1] / temperature).exp() / denominator).log())
        images.append(sum(terms) / len(terms))
    return sum(images) / len(images)


@pytest.mark.parametrize("views_per_forward", [0, 1])
@pytest.mark.parametrize("temperature", [0.2, 0.5])
def test_instance_simclr__equals_naive_loop(temperature, views_per_forward):
    """Loss and gradient match a float64 loop over the patches of each image."""
    method = linear_method(temperature, views_per_forward=views_per_forward)
    views = torch.randint(0, 256, (3, 4, 3, 2, 2), dtype=torch.uint8)
    torch.manual_seed(5)
    loss, logs = method(views)
    loss.backward()

    torch.manual_seed(5)
    chunks = views.split(views_per_forward or 4, dim=1)
    noisy = []
    for _ in range(2):
        pieces = []
        for chunk in chunks:
            images = (chunk.flatten(0, 1).float() / 64).contiguous(
                memory_format=torch.channels_last
            )
            pieces.append(
                (images + torch.randn_like(images) * 16 / 64).unflatten(0, chunk.shape[:2])
            )
        noisy.append(torch.cat(pieces, dim=1).flatten(2))
    weight, bias = (p.detach().double().requires_grad_() for p in method.projector.parameters())
    copies = torch.stack(noisy, dim=2).double() @ weight.T + bias
    expected = naive_loss(copies, temperature)
    expected.backward()
    torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(
        method.projector.weight.grad.double(), weight.grad, rtol=1e-4, atol=1e-6
    )
    torch.testing.assert_close(method.projector.bias.grad.double(), bias.grad, rtol=1e-4, atol=1e-6)
    cosine = torch.cosine_similarity(copies[:, :, 0], copies[:, :, 1], dim=2).mean().item()
    assert logs["positive_cosine"].item() == pytest.approx(cosine, rel=1e-5)


def test_instance_simclr__other_images_do_not_matter():
    """The loss of a batch is the mean of the losses of its single images."""
    method = linear_method(noise=1e-3)
    views = torch.randint(0, 256, (3, 4, 3, 2, 2), dtype=torch.uint8)
    alone = [method(views[i : i + 1])[0].item() for i in range(3)]
    assert method(views)[0].item() == pytest.approx(sum(alone) / 3, rel=1e-3)


@pytest.mark.parametrize("std", [4.0, 16.0])
@pytest.mark.parametrize("constants", [CIFAR, ([0.0] * 3, [255.0] * 3)])
def test_gaussian_noise__is_in_gray_levels(std, constants):
    """The noise has the given deviation in gray levels and mean 0, and differs between draws."""
    mean, deviation = (torch.tensor(values)[None, :, None, None] for values in constants)
    images = torch.full((8, 3, 64, 64), 100, dtype=torch.uint8)
    noise = GaussianNoise(std, Normalize(*constants))
    torch.manual_seed(0)
    levels = noise(images) * deviation + mean - 100
    # 32,768 values per channel: standard errors of 0.4 % (deviation) and 0.55 % (mean) of std.
    torch.testing.assert_close(levels.std(dim=(0, 2, 3)), torch.full((3,), std), rtol=0.02, atol=0)
    torch.testing.assert_close(levels.mean(dim=(0, 2, 3)), torch.zeros(3), rtol=0, atol=0.03 * std)
    assert not torch.equal(noise(images), noise(images))


def test_instance_simclr__learns_to_tell_patches_apart():
    """A few steps lower the loss on distinct patches."""
    torch.manual_seed(0)
    network = resnet18(width=2, stem="cifar_stride2")
    method = InstanceSimCLR(
        network, simclr_projector(16, 16, 8), Normalize([127.5] * 3, [127.5] * 3), 0.2
    )
    views = (
        torch.randint(0, 256, (4, 4, 3, 1, 1), dtype=torch.uint8).expand(4, 4, 3, 8, 8).contiguous()
    )
    optimizer = torch.optim.SGD(method.parameters(), lr=0.05, momentum=0.9)
    losses = []
    for _ in range(30):
        loss, _ = method(views)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5])


def test_instance_simclr__refuses_bad_arguments():
    """One view, a noise of 0 or a temperature of 0 raises a ConfigError."""
    with pytest.raises(ConfigError, match="at least 2 views, got 1"):
        linear_method()(torch.zeros(2, 1, 3, 2, 2, dtype=torch.uint8))
    with pytest.raises(ConfigError, match=r"in gray levels, got 0\.0"):
        linear_method(noise=0.0)
    with pytest.raises(ConfigError, match=r"temperature must be positive, got 0\.0"):
        linear_method(temperature=0.0)
