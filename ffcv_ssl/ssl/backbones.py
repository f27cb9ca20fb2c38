"""Backbones by name: the residual networks of this package, registered ones, and models of timm."""

from collections.abc import Callable

from torch import nn

from ffcv_ssl.errors import ConfigError
from ffcv_ssl.ssl.resnet import resnet18, resnet34, resnet50, resnet101

TIMM = "timm:"  # prefix of the names of models from the timm library
# Backbones that configurations can name. Add an entry to register a builder; it takes (width, stem)
# and returns a module with the attribute `num_features`.
BACKBONES: dict[str, Callable[[int, str], nn.Module]] = {
    "resnet18": resnet18,
    "resnet34": resnet34,
    "resnet50": resnet50,
    "resnet101": resnet101,
}


def check_backbone_name(name: str) -> None:
    """Raise an error unless `name` is in `BACKBONES` or begins with "timm:".

    Parameters
    ----------
    name
        Name of a backbone.

    Raises
    ------
    ConfigError
        If there is no backbone with this name. The function does not look up models of timm.
    """
    if name not in BACKBONES and not name.startswith(TIMM):
        raise ConfigError(f"no backbone '{name}'. Backbones: {', '.join(BACKBONES)}, {TIMM}NAME.")


def backbone(name: str, width: int = 64, stem: str = "imagenet") -> nn.Module:
    """Build a backbone by its name.

    Parameters
    ----------
    name
        A key of `BACKBONES`, or "timm:NAME" for a model of the timm library, untrained and without
        its classifier.
    width
        Number of channels of the first stage, >= 1; ignored for models of timm.
    stem
        See `ResNet`; ignored for models of timm.

    Returns
    -------
    Module that maps (N, 3, H, W) images to (N, num_features) features.

    Raises
    ------
    ConfigError
        If there is no backbone with this name, timm is not installed, `width` or `stem` is invalid,
        or the built module has no `num_features`.
    """
    check_backbone_name(name)
    network = (
        _timm_backbone(name.removeprefix(TIMM))
        if name.startswith(TIMM)
        else BACKBONES[name](width, stem)
    )
    if not isinstance(getattr(network, "num_features", None), int):
        raise ConfigError(
            f"the backbone '{name}' lacks num_features, the length of its feature vectors."
        )
    return network


def _timm_backbone(name: str) -> nn.Module:
    """Build an untrained model of timm without its classifier."""
    try:
        import timm
    except ImportError as error:
        raise ConfigError(
            f"the backbone '{TIMM}{name}' needs the timm library: pip install 'ffcv_ssl[timm]'."
        ) from error
    if not timm.is_model(name):
        close = ", ".join(timm.list_models(f"*{name}*")[:5])
        raise ConfigError(f"timm has no model '{name}'.{f' Close: {close}.' if close else ''}")
    network: nn.Module = timm.create_model(name, pretrained=False, num_classes=0)
    # Some models widen the features after pooling; `head_hidden_size` is the width of the output.
    num_features = getattr(network, "head_hidden_size", None) or network.num_features
    network.num_features = num_features
    return network
