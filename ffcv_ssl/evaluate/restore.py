"""A finished run, or an exported backbone, back as a method that computes features."""

import json
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import nn

from ffcv_ssl.errors import CheckpointError, ConfigError
from ffcv_ssl.evaluate.export import weights_checksum
from ffcv_ssl.runs.saved_config import read_run, read_section
from ffcv_ssl.ssl import Method, Normalize
from ffcv_ssl.system.paths import local_path, utf8_path
from ffcv_ssl.train.checkpoint import kept_name, read_weights, short_reason
from ffcv_ssl.train.config import DataConfig, ModelConfig, TrainConfig, require
from ffcv_ssl.train.network import build_backbone
from ffcv_ssl.train.views import CropViews

if TYPE_CHECKING:
    from ffcv_ssl.recipe import Recipe


class Trained(NamedTuple):
    """What a run left.

    Attributes
    ----------
    name
        Of the method.
    method
        With the trained weights, on the CPU. Of an exported backbone: one without projector and loss.
    configs
        The sections of the run's configuration. Of an exported backbone: `data` (no files), `view` (whole images only), `model`, `train`.
    folder
        Where the run, or the exported file, is.
    steps, epochs
        Optimizer steps behind the weights, and finished passes over the training file.
    training_seconds
        Training time behind the weights, loading included; None of an exported backbone.
    has_views
        Whether `configs.view` are the views of the training; False of an exported backbone.
    trained_on
        The training file behind the weights; empty where that is not known.
    """

    name: str
    method: Method
    configs: SimpleNamespace
    folder: Path
    steps: int
    epochs: int
    training_seconds: float | None
    has_views: bool
    trained_on: str = ""


def restore(folder: str | Path, recipe: "Recipe", epoch: int | None = None) -> Trained:
    """Build the method of a run and give it the weights of its checkpoint, or those kept after an epoch.

    Parameters
    ----------
    folder
        Of the run, with config.yaml and checkpoint.pt.
    recipe
        The one that `read_run` names.
    epoch
        After which the weights were kept (train.keep); None: those of the last checkpoint.

    Raises
    ------
    ConfigError
        If the folder holds no run, one of another method, or one whose options this version does not know.
    CheckpointError
        If there is no checkpoint, or it does not fit the configuration.
    """
    folder = Path(local_path(folder))
    name, content = read_run(folder)
    if name != recipe.name:
        raise ConfigError(f"{folder}: holds a run of {name}, not of {recipe.name}.")
    sections = {section: read_section(folder, section, kind, content.get(section, {})) for section, kind in recipe.sections.items()}
    configs = SimpleNamespace(**sections)
    path = folder / (kept_name(epoch) if epoch else "checkpoint.pt")
    weights, progress, epochs = read_weights(path)
    method = recipe.method(configs)
    _load(method, weights, path)
    return Trained(name, method, configs, folder, progress.step, epochs, progress.seconds, has_views=True, trained_on=configs.data.train)


def restore_backbone(path: str | Path) -> Trained:
    """Build the backbone of a `backbone.safetensors` from its metadata, with its weights.

    Raises
    ------
    CheckpointError
        If the file cannot be read, or was not written by `export_backbone`.
    """
    path = Path(local_path(path))
    weights, metadata = _read_safetensors(path)
    try:
        model = ModelConfig(backbone=metadata["architecture"], width=int(metadata["width"]), stem=metadata["stem"])  # type: ignore[arg-type]
        mean, std = ([float(value) for value in json.loads(metadata[name])] for name in ("mean", "std"))
        require(len(mean) == len(std) == 3 and min(std) > 0, "mean and std are three values each, std above 0")
        view = CropViews(size=int(metadata["image_size"]), eval_ratio=float(metadata["image_ratio"]))
        name, steps, epochs = metadata["method"], int(metadata["steps"]), int(metadata["epochs"])
    except (KeyError, ValueError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{path}: its metadata are not those of `ffcv-ssl export`: {short_reason(error)}.") from error
    if metadata.get("checksum", weights_checksum(weights)) != weights_checksum(weights):
        raise CheckpointError(f"{path}: the weights do not match their checksum; the file is damaged.")
    backbone = build_backbone(model)
    _load(backbone, weights, path)
    configs = SimpleNamespace(data=DataConfig(train=""), view=view, model=model, train=TrainConfig(epochs=1, batch_size=2))
    method = Method(backbone, nn.Identity(), Normalize(mean, std))
    return Trained(name, method, configs, path.parent, steps, epochs, None, has_views=False)


def _read_safetensors(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Tensors and metadata of a file."""
    from safetensors import SafetensorError, safe_open

    try:
        with utf8_path(path) as readable, safe_open(readable, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118  # it is no dict
    except (OSError, SafetensorError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        raise CheckpointError(f"{path}: no readable safetensors file: {short_reason(error)}.") from error


def _load(module: nn.Module, weights: Mapping[str, Any], path: Path) -> None:
    try:
        module.load_state_dict(weights)
    except Exception as error:  # torch raises many types for state dicts that are none
        reason = short_reason(error)
        raise CheckpointError(f"{path}: the weights do not fit the network that its configuration describes: {reason}") from error
