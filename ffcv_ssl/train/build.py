"""Parts of a run, built from their configuration."""

from typing import Any

import torch
from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from ffcv_ssl.ssl import LARS, Normalize, backbone, parameter_groups
from ffcv_ssl.train.config import NORMALIZATIONS, ModelConfig, OptimConfig


def build_backbone(config: ModelConfig) -> Any:
    """The backbone, with `num_features`, with weights from torch's global generator, channels-last (1.6 times as fast on a CPU)."""
    network = backbone(config.backbone, config.width, config.stem)
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs lack this form


def build_normalize(config: ModelConfig) -> Normalize:
    """The module that turns uint8 images into the backbone's input."""
    return Normalize(*NORMALIZATIONS[config.normalization])


def build_optimizer(model: nn.Module, config: OptimConfig, batch_size: int) -> Optimizer:
    """The optimizer; each group's highest learning rate stays readable as `group["initial_lr"]`."""
    groups = parameter_groups(model, config.weight_decay, config.exclude_1d)
    lr = config.lr * batch_size / 256 if config.scale_lr else config.lr
    for group in groups:
        group["initial_lr"] = lr
    if config.name == "adam":
        return Adam(groups, lr=lr)
    if config.name == "adamw":
        return AdamW(groups, lr=lr)
    if config.name == "sgd":
        return SGD(groups, lr=lr, momentum=config.momentum, nesterov=config.nesterov)
    return LARS(groups, lr, config.momentum, eta=config.eta, clip=config.clip, nesterov=config.nesterov, exclude_1d=config.exclude_1d)
