"""Tests of the configuration sections."""

from dataclasses import fields

import pytest

from ffcv_ssl.errors import ConfigError
from ffcv_ssl.ssl import BACKBONES, STEMS, backbone
from ffcv_ssl.train import DataConfig, EvalConfig, LogConfig, ModelConfig, OptimConfig, TrainConfig
from ffcv_ssl.train.network import NORMALIZATIONS


@pytest.mark.parametrize(
    ("section", "values"),
    [
        (ModelConfig, {"width": 0}),
        (ModelConfig, {"views_per_forward": -1}),
        (ModelConfig, {"images_per_forward": -1}),
        (OptimConfig, {"name": "sgd", "lr": 0.0}),
        (OptimConfig, {"name": "sgd", "lr": 0.1, "momentum": 1.0}),
        (OptimConfig, {"name": "sgd", "lr": 0.1, "momentum": 0.0, "nesterov": True}),
        (OptimConfig, {"name": "sgd", "lr": 0.1, "warmup": 1.0}),
        (TrainConfig, {"batch_size": 8, "epochs": 0}),
        (TrainConfig, {"epochs": 1, "batch_size": 1}),
        (EvalConfig, {"temperature": 0.0}),
        (LogConfig, {"out": "runs", "every": 0}),
    ],
)
def test_config__refuses_values_out_of_range(section, values):
    """A value out of range raises a ConfigError with the name of the option."""
    name, value = list(values.items())[-1]
    with pytest.raises(ConfigError, match=name):
        section(**values)
    assert section(**{**values, name: {bool: False, int: 2, float: 0.5}[type(value)]})


@pytest.mark.parametrize(
    "section", [DataConfig, ModelConfig, OptimConfig, TrainConfig, EvalConfig, LogConfig]
)
def test_config__every_option_has_help(section):
    """Every option has a help text."""
    assert all(field.metadata["help"] for field in fields(section))


def test_model_config__choices_exist():
    """All stems, normalizations and backbones that the configuration offers can be built."""
    assert ModelConfig.__dataclass_fields__["stem"].type.__args__ == STEMS
    assert set(ModelConfig.__dataclass_fields__["normalization"].type.__args__) == set(
        NORMALIZATIONS
    )
    for name in BACKBONES:
        assert backbone(ModelConfig(backbone=name).backbone, width=1).num_features in (8, 32)


def test_model_config__timm_models_take_no_width_and_no_stem():
    """Unknown backbones raise with the choices; models of timm accept neither width nor stem."""
    with pytest.raises(
        ConfigError,
        match=r"no backbone 'resnet19'. "
        r"Backbones: resnet18, resnet34, resnet50, resnet101, timm:NAME",
    ):
        ModelConfig(backbone="resnet19")
    with pytest.raises(ConfigError, match="leave width at 64"):
        ModelConfig(backbone="timm:resnet18", width=16)
    with pytest.raises(ConfigError, match="leave stem at cifar"):
        ModelConfig(backbone="timm:resnet18", stem="imagenet")
    assert ModelConfig(backbone="timm:resnet18").backbone == "timm:resnet18"
