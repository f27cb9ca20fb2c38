"""Tests of building optimizers from their configuration."""

import pytest
import torch
from torch import nn

from ffcv_ssl.train import OptimConfig, build_optimizer


def test_build_optimizer__adam_is_adam():
    """Four steps equal those of the Adam paper, with weight decay except for biases."""
    torch.manual_seed(0)
    layer = nn.Linear(3, 2).double()
    optimizer = build_optimizer(layer, OptimConfig(name="adam", lr=0.1, weight_decay=0.01), 512)
    assert [group["initial_lr"] for group in optimizer.param_groups] == [0.1, 0.1]
    values = {name: p.detach().clone() for name, p in layer.named_parameters()}
    first, second = (
        {name: torch.zeros_like(value) for name, value in values.items()} for _ in range(2)
    )
    for step in range(1, 5):
        optimizer.zero_grad()
        layer(torch.randn(4, 3, dtype=torch.float64)).square().sum().backward()
        optimizer.step()
        for name, p in layer.named_parameters():
            gradient = p.grad + (0.01 * values[name] if name == "weight" else 0)
            first[name] = 0.9 * first[name] + 0.1 * gradient
            second[name] = 0.999 * second[name] + 0.001 * gradient**2
            root = (second[name] / (1 - 0.999**step)).sqrt()
            values[name] = values[name] - 0.1 * first[name] / (1 - 0.9**step) / (root + 1e-8)
            torch.testing.assert_close(p.detach(), values[name], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", ["sgd", "lars", "adam", "adamw"])
def test_build_optimizer__scales_the_rate_with_the_batch(name):
    """`scale_lr` multiplies every peak rate by batch size / 256; the name selects the class."""
    optimizer = build_optimizer(nn.Linear(3, 2), OptimConfig(name=name, lr=0.1, scale_lr=True), 512)
    assert {group["initial_lr"] for group in optimizer.param_groups} == {0.2}
    assert type(optimizer).__name__.lower() == name
