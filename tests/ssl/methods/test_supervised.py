"""Supervised training against a naive loop in float64."""

import pytest
import torch
from torch import nn

from ffcv_ssl.errors import ConfigError
from ffcv_ssl.ssl import Method, Normalize, Supervised, resnet18


class Pixels(nn.Module):
    """A backbone whose features are pixels."""

    def forward(self, images):
        return images.flatten(1)


def linear_method(num_classes=4, label_smoothing=0.0, **options):
    """Build a float64 classifier of pixels."""
    torch.manual_seed(0)
    normalize = Normalize([0.0] * 3, [1.0] * 3)
    return Supervised(
        Pixels(), 3 * 2 * 2, num_classes, normalize, label_smoothing, **options
    ).double()


def naive_loss(logits, labels, label_smoothing):
    """Compute the smoothed cross entropy of (B, V, C) logits, one view at a time."""
    terms = []
    for image, label in zip(logits, labels, strict=True):
        for view in image:
            log_probabilities = [
                (score - sum(other.exp() for other in view).log()) for score in view
            ]
            even = label_smoothing / len(view)
            terms.append(
                -sum(
                    (even + (1 - label_smoothing) * (c == label)) * value
                    for c, value in enumerate(log_probabilities)
                )
            )
    return sum(terms) / len(terms)


@pytest.mark.parametrize("views_per_forward", [0, 1])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.2])
def test_supervised__equals_naive_loop(label_smoothing, views_per_forward):
    """Loss, gradient and accuracy match a loop over images and views."""
    method = linear_method(label_smoothing=label_smoothing)
    method.views_per_forward = views_per_forward
    views, labels = torch.randn(5, 3, 3, 2, 2, dtype=torch.float64), torch.tensor([0, 3, 1, 1, 2])
    loss, logs = method(views, labels)
    loss.backward()
    weight, bias = (p.detach().clone().requires_grad_() for p in method.projector.parameters())
    logits = views.flatten(2) @ weight.T + bias
    expected = naive_loss(logits, labels.tolist(), label_smoothing)
    expected.backward()
    torch.testing.assert_close(loss, expected.float())  # the loss is computed in float32
    torch.testing.assert_close(method.projector.weight.grad, weight.grad, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(method.projector.bias.grad, bias.grad, rtol=1e-5, atol=1e-6)
    right = [
        int(view.argmax()) == label
        for image, label in zip(logits, labels.tolist(), strict=True)
        for view in image
    ]
    assert logs["accuracy"].item() == pytest.approx(sum(right) / 15)
    assert not logs["accuracy"].requires_grad


def test_supervised__loss_is_float32_under_autocast():
    """The loss is float32 even if the network computes in bfloat16."""
    network = resnet18(width=2, stem="cifar_stride2")
    method = Supervised(network, network.num_features, 4, Normalize([127.5] * 3, [127.5] * 3))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert method.embed(torch.zeros(2, 1, 3, 8, 8, dtype=torch.uint8)).dtype == torch.bfloat16
        loss, _ = method(torch.zeros(2, 1, 3, 8, 8, dtype=torch.uint8), torch.tensor([0, 1]))
    assert loss.dtype == torch.float32


def test_supervised__classifies_as_it_trains():
    """`classify` returns the logits of the loss."""
    method = linear_method()
    views = torch.randn(5, 1, 3, 2, 2, dtype=torch.float64)
    assert torch.equal(method.classify(views[:, 0]), method.embed(views)[:, 0])


def test_supervised__asks_for_labels():
    """Only `Supervised` uses labels; it refuses one class and a smoothing above 1."""
    assert Supervised.uses_labels
    assert not Method.uses_labels
    with pytest.raises(ConfigError, match="at least 2 classes, got 1"):
        linear_method(num_classes=1)
    with pytest.raises(ConfigError, match=r"label_smoothing must be in \[0, 1\), got 3"):
        linear_method(label_smoothing=3)
