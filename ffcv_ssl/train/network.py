"""Networks and optimizers, built from their configuration and prepared for training."""

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import SGD, Adam, AdamW, Optimizer

from ffcv_ssl.errors import ConfigError
from ffcv_ssl.ssl import LARS, Method, Normalize, backbone, parameter_groups
from ffcv_ssl.ssl.methods.method import Logs
from ffcv_ssl.train.config import ModelConfig, OptimConfig, TrainConfig
from ffcv_ssl.train.distributed import world_size

NORMALIZATIONS = {  # mean and standard deviation per channel, on the 0..255 scale
    "half": ((127.5, 127.5, 127.5), (127.5, 127.5, 127.5)),
    "unit": ((0.0, 0.0, 0.0), (255.0, 255.0, 255.0)),
    "cifar10": ((125.31, 122.95, 113.87), (62.99, 62.09, 66.70)),
    "imagenet": ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
}
# Called with views, and with labels if the method uses them.
Network = Callable[..., tuple[Tensor, Logs]]


def build_backbone(config: ModelConfig) -> Any:
    """Build a backbone.

    Its weights are drawn from torch's global generator. Its memory format is channels-last, which
    is 1.6 times as fast on a CPU.

    Parameters
    ----------
    config
        Architecture, width and stem.

    Returns
    -------
    torch.nn.Module
        Backbone, on the CPU. Its attribute `num_features` is the length of its features.

    Raises
    ------
    ConfigError
        If there is no such architecture, or timm is needed and not installed.

    Examples
    --------
    >>> build_backbone(ModelConfig(backbone="resnet18", width=16)).num_features
    128
    """
    network = backbone(config.backbone, config.width, config.stem)
    # torch's stubs lack this overload.
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def num_features(backbone: nn.Module) -> int:
    """Return the length of a backbone's features."""
    return cast(int, backbone.num_features)


def build_normalize(config: ModelConfig) -> Normalize:
    """Build the module that normalizes the backbone's input.

    Parameters
    ----------
    config
        Configuration with the name of the normalization.

    Returns
    -------
    Normalize
        Module that maps uint8 images to float32.
    """
    return Normalize(*NORMALIZATIONS[config.normalization])


def build_optimizer(model: nn.Module, config: OptimConfig, batch_size: int) -> Optimizer:
    """Build an optimizer.

    Parameters
    ----------
    model
        Module whose trainable parameters to optimize.
    config
        Optimizer, learning rate and weight decay.
    batch_size
        Number of images per step, summed over all processes. Scales the learning rate if
        `config.scale_lr` is set.

    Returns
    -------
    Optimizer
        Optimizer whose parameter groups hold their peak learning rate as `initial_lr`.
    """
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
    return LARS(
        groups,
        lr,
        config.momentum,
        eta=config.eta,
        clip=config.clip,
        nesterov=config.nesterov,
        exclude_1d=config.exclude_1d,
    )


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Put a module into evaluation mode and disable gradients for the duration of the block.

    Parameters
    ----------
    module
        Module to freeze. Its training mode is restored afterwards.

    Yields
    ------
    None
    """
    was_training = module.training
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        module.train(was_training)


@contextmanager
def training_network(method: Method, train: TrainConfig, device: torch.device) -> Iterator[Network]:
    """Prepare a method for training, and yield the callable that runs its forward pass.

    The callable has the parameters of `method`. With several processes it averages gradients over
    the processes; `sync_batch_norm` converts batch normalization in place, for good.

    Parameters
    ----------
    method
        Method on `device`. If the run is resumed, its weights are restored; the weights of rank 0
        are sent to all processes.
    train
        Configuration of the training: `sync_batch_norm`, `compile` and `recompute`.
    device
        Device that trains.

    Yields
    ------
    Network
        Callable that maps views, and labels if the method uses them, to (loss, logs).

    Raises
    ------
    ConfigError
        If the device does not support an option, or two options exclude each other.
    """
    _check(train, device)
    method.recompute = train.recompute
    if train.sync_batch_norm and world_size() > 1:
        nn.SyncBatchNorm.convert_sync_batchnorm(method)  # type: ignore[no-untyped-call]  # torch
    with compiled_backbones(method, train.compile):
        network: Network = method
        if world_size() > 1:
            device_ids = None if device.type == "cpu" else [device]
            network = DistributedDataParallel(method, device_ids=device_ids)
        yield _marking_steps(network) if train.compile == "reduce-overhead" else network


def _check(train: TrainConfig, device: torch.device) -> None:
    """Raise ConfigError if the device lacks an option, or two options exclude each other."""
    if train.recompute and train.compile == "reduce-overhead":
        raise ConfigError(
            "train.compile: reduce-overhead records CUDA graphs, which cannot recompute "
            "activations; use default with train.recompute."
        )
    if device.type != "cpu":
        return
    if train.sync_batch_norm:
        raise ConfigError(
            "train.sync_batch_norm: torch synchronizes batch normalization on GPUs only; "
            "turn it off on a CPU."
        )
    if train.compile == "reduce-overhead":
        raise ConfigError(
            "train.compile: reduce-overhead records CUDA graphs, which need a GPU; "
            "use default or no on a CPU."
        )
    # The compiler that torch chooses.
    compiler = os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")
    if train.compile != "no" and shutil.which(compiler) is None:
        raise ConfigError(
            f"train.compile: torch needs the compiler {compiler} on a CPU, which is not installed; "
            "install it or use train.compile=no."
        )


@contextmanager
def compiled_backbones(method: Method, mode: str) -> Iterator[None]:
    """Compile the backbones of a method, for training only, within the block.

    A frozen backbone runs uncompiled: an evaluation keeps outputs, which a CUDA graph would
    overwrite, and its batches of other sizes would cause a recompilation.

    Parameters
    ----------
    method
        Method whose backbone, and in BYOL target backbone, to compile.
    mode
        "no", or a mode of `torch.compile`.
    """
    backbones = [
        child
        for name, child in method.named_children()
        if name.endswith("backbone") and mode != "no"
    ]
    for child in backbones:
        child.forward = _compiled_in_training(child, mode)
    try:
        yield
    finally:
        for child in backbones:
            del child.forward


def _compiled_in_training(backbone: nn.Module, mode: str) -> Callable[[Tensor], Tensor]:
    """Return a forward function that is compiled in training mode only."""
    eager = backbone.forward
    compiled = torch.compile(eager, mode=mode)
    return lambda images: (compiled if backbone.training else eager)(images)


def _marking_steps(network: Network) -> Network:
    """Mark the beginning of each step, so that CUDA graphs may overwrite earlier outputs."""

    def step(*inputs: Tensor) -> tuple[Tensor, Logs]:
        torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]  # torch
        return network(*inputs)

    return step
