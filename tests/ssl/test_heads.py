"""Layers of the projectors and the predictor."""

import pytest
from torch import nn

from ffcv_ssl.errors import ConfigError
from ffcv_ssl.ssl import EmpProjector, byol_predictor, mlp, simclr_projector


def kinds(module):
    """Return the type names of the layers of a module."""
    return [type(layer).__name__ for layer in module]


def test_mlp__stacks_layers():
    """Batch normalization and ReLU follow every linear layer except the last."""
    assert kinds(mlp([4, 5, 6], batch_norm=True)) == ["Linear", "BatchNorm1d", "ReLU", "Linear"]
    assert kinds(mlp([4, 5, 6], batch_norm=False)) == ["Linear", "ReLU", "Linear"]


def test_simclr_projector__follows_both_recipes():
    """Without batch normalization all layers have biases; with it the last layer has none."""
    plain = simclr_projector(512, 1024, 128, batch_norm=False)
    assert [layer.bias is not None for layer in plain if isinstance(layer, nn.Linear)] == [
        True,
        True,
    ]
    deep = simclr_projector(20, 32, 32, num_layers=3)
    assert [layer.bias is not None for layer in deep if isinstance(layer, nn.Linear)] == [
        True,
        True,
        False,
    ]


def test_byol_predictor__has_the_released_layers():
    """The layers are 256-4096-256 with batch normalization and ReLU; the last has no bias."""
    head = byol_predictor(256, 4096)
    assert kinds(head) == ["Linear", "BatchNorm1d", "ReLU", "Linear"]
    assert [
        (layer.in_features, layer.out_features, layer.bias is not None)
        for layer in (head[0], head[3])
    ] == [
        (256, 4096, True),
        (4096, 256, False),
    ]


def test_emp_projector__has_the_released_layers():
    """Three linear layers, 512-4096-4096-1024, all with bias."""
    head = EmpProjector(512)
    linear = [layer for layer in head.modules() if isinstance(layer, nn.Linear)]
    assert [(layer.in_features, layer.out_features) for layer in linear] == [
        (512, 4096),
        (4096, 4096),
        (4096, 1024),
    ]
    assert all(layer.bias is not None for layer in linear)
    assert kinds(head.pre_feature) == ["Linear", "BatchNorm1d", "ReLU"]


def test_mlp__refuses_layers_without_width():
    """A width of 0 raises a ConfigError that lists all widths."""
    with pytest.raises(ConfigError, match="8 - 0 - 4"):
        mlp([8, 0, 4], batch_norm=True)
