"""The network of a run: its parts, built from the configuration, and how a method is called while it trains."""

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import SGD, Adam, AdamW, Optimizer

from ffcv_ssl.errors import ConfigError
from ffcv_ssl.ssl import LARS, Method, Normalize, backbone, parameter_groups
from ffcv_ssl.ssl.methods.method import Logs
from ffcv_ssl.train.config import NORMALIZATIONS, ModelConfig, OptimConfig, TrainConfig
from ffcv_ssl.train.distributed import world_size

Network = Callable[..., tuple[Tensor, Logs]]  # of views, and labels for a method that uses them


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


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; afterwards the module trains again if it did before."""
    was_training = module.training
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        module.train(was_training)


@contextmanager
def training_network(method: Method, train: TrainConfig, device: torch.device) -> Iterator[Network]:
    """Give what the loop calls instead of `method`; parameters and names are the method's own.

    With several processes, batch normalization is converted in place if so configured, and stays so; gradients are averaged over processes.

    Parameters
    ----------
    method
        On `device`, its weights restored: rank 0's are sent to all.
    train
        For `sync_batch_norm`, `compile` and `recompute`.
    device
        Where it trains.

    Raises
    ------
    ConfigError
        If the device cannot do what is asked for, or two options do not go together.
    """
    _check(train, device)
    method.recompute = train.recompute
    if train.sync_batch_norm and world_size() > 1:
        nn.SyncBatchNorm.convert_sync_batchnorm(method)
    with compiled_backbones(method, train.compile):
        network: Network = method
        if world_size() > 1:
            network = DistributedDataParallel(method, device_ids=None if device.type == "cpu" else [device])
        yield _marking_steps(network) if train.compile == "reduce-overhead" else network


def _check(train: TrainConfig, device: torch.device) -> None:
    """Refuse what the device cannot do, and what does not go together."""
    if train.recompute and train.compile == "reduce-overhead":
        raise ConfigError("train.compile: CUDA graphs (reduce-overhead) cannot recompute; use default with train.recompute.")
    if device.type != "cpu":
        return
    if train.sync_batch_norm:
        raise ConfigError("train.sync_batch_norm: torch synchronizes batch normalization on GPUs only; leave it off on a CPU.")
    if train.compile == "reduce-overhead":
        raise ConfigError("train.compile: reduce-overhead records CUDA graphs, which need a GPU; use default or no on a CPU.")
    compiler = os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")  # torch's own choice
    if train.compile != "no" and shutil.which(compiler) is None:
        raise ConfigError(f"train.compile: on a CPU torch compiles with {compiler}, which is not here; install it or use train.compile=no.")


@contextmanager
def compiled_backbones(method: Method, mode: str) -> Iterator[None]:
    """Compile the backbone, and BYOL's target backbone, for their training; frozen they run as written, and so after the block.

    Evaluation keeps its outputs, which a CUDA graph would overwrite, and has batches of other sizes, for which all is compiled again.
    """
    backbones = [child for name, child in method.named_children() if name.endswith("backbone") and mode != "no"]
    for child in backbones:
        child.forward = _compiled_in_training(child, mode)
    try:
        yield
    finally:
        for child in backbones:
            del child.forward


def _compiled_in_training(backbone: nn.Module, mode: str) -> Callable[[Tensor], Tensor]:
    eager = backbone.forward
    compiled = torch.compile(eager, mode=mode)
    return lambda images: (compiled if backbone.training else eager)(images)


def _marking_steps(network: Network) -> Network:
    """Tell the CUDA graphs where a step begins: what they gave out in the last one may be overwritten."""

    def step(*inputs: Tensor) -> tuple[Tensor, Logs]:
        torch.compiler.cudagraph_mark_step_begin()
        return network(*inputs)

    return step
