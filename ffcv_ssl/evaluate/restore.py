"""Restoring of a finished run or an exported backbone."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import nn

from ffcv_ssl.errors import CheckpointError, ConfigError
from ffcv_ssl.evaluate.configs import Configs
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
    """A trained method and its configuration.

    Attributes
    ----------
    name
        Name of the method.
    method
        Method with the trained weights, on the CPU. That of an exported backbone has neither
        projector nor loss.
    configs
        Configuration of the run. That of an exported backbone has the sections `data` (without
        files), `view` (whole images only), `model` and `train`.
    folder
        Folder of the run, or of the exported file.
    steps, epochs
        Number of optimizer steps, and of completed passes over the training file.
    training_seconds
        Training time in seconds, including loading; None for an exported backbone.
    has_views
        Whether `configs.view` describes the views of the training; False for an exported backbone.
    trained_on
        Path of the training file, or an empty string if it is not known.
    """

    name: str
    method: Method
    configs: Configs
    folder: Path
    steps: int
    epochs: int
    training_seconds: float | None
    has_views: bool
    trained_on: str = ""


def restore(folder: str | Path, recipe: "Recipe", epoch: int | None = None) -> Trained:
    """Restore the method of a run with the weights of its checkpoint or of an epoch.

    Parameters
    ----------
    folder
        Folder of the run, with config.yaml and checkpoint.pt.
    recipe
        Recipe of the method that `read_run` names.
    epoch
        Epoch after which the weights were kept (`train.keep`). None restores the last checkpoint.

    Returns
    -------
    Trained
        Method and configuration.

    Raises
    ------
    ConfigError
        If the folder holds no run or a run of another method, or this version does not know one of
        its options.
    CheckpointError
        If there is no checkpoint, or it does not fit the configuration.
    """
    folder = Path(local_path(folder))
    name, content = read_run(folder)
    if name != recipe.name:
        raise ConfigError(f"{folder}: holds a run of {name}, not of {recipe.name}.")
    configs = Configs(
        **{
            section: read_section(folder, section, kind, content.get(section, {}))
            for section, kind in recipe.sections.items()
        }
    )
    path = folder / (kept_name(epoch) if epoch else "checkpoint.pt")
    weights, progress, epochs = read_weights(path)
    method = recipe.method(configs)
    _load(method, weights, path)
    return Trained(
        name,
        method,
        configs,
        folder,
        progress.step,
        epochs,
        progress.seconds,
        has_views=True,
        trained_on=configs.data.train,
    )


def restore_backbone(path: str | Path) -> Trained:
    """Restore the backbone of a `backbone.safetensors` file.

    Parameters
    ----------
    path
        Path of a file written by `export_backbone`.

    Returns
    -------
    Trained
        Method with the backbone and its normalization, and the configuration in the metadata.

    Raises
    ------
    CheckpointError
        If the file is damaged, or was not written by `export_backbone`.
    """
    path = Path(local_path(path))
    weights, metadata = _read_safetensors(path)
    try:
        stem: Any = metadata["stem"]
        model = ModelConfig(metadata["architecture"], width=int(metadata["width"]), stem=stem)
        mean, std = (
            [float(value) for value in json.loads(metadata[name])] for name in ("mean", "std")
        )
        is_valid = len(mean) == len(std) == 3 and min(std) > 0
        require(is_valid, "mean and std must have three values each, and std must be positive")
        size, ratio = int(metadata["image_size"]), float(metadata["image_ratio"])
        view = CropViews(size=size, eval_ratio=ratio)
        name, steps, epochs = metadata["method"], int(metadata["steps"]), int(metadata["epochs"])
    except (KeyError, ValueError, TypeError, RecursionError) as error:
        raise CheckpointError(
            f"{path}: its metadata are not those of `ffcv-ssl export`: {short_reason(error)}."
        ) from error
    checksum = weights_checksum(weights)
    if metadata.get("checksum", checksum) != checksum:
        raise CheckpointError(
            f"{path}: the checksum of the weights does not match; the file is damaged."
        )
    backbone = build_backbone(model)
    _load(backbone, weights, path)
    train = TrainConfig(epochs=1, batch_size=2)  # unused, but required
    configs = Configs(data=DataConfig(train=""), view=view, model=model, train=train)
    method = Method(backbone, nn.Identity(), Normalize(mean, std))
    return Trained(name, method, configs, path.parent, steps, epochs, None, has_views=False)


def _read_safetensors(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the tensors and the metadata of a file."""
    from safetensors import SafetensorError, safe_open

    try:
        with utf8_path(path) as readable, safe_open(readable, framework="pt") as file:
            names = list(file.keys())
            return {name: file.get_tensor(name) for name in names}, file.metadata() or {}
    except (OSError, SafetensorError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        raise CheckpointError(
            f"{path}: not a readable safetensors file: {short_reason(error)}."
        ) from error


def _load(module: nn.Module, weights: Mapping[str, Any], path: Path) -> None:
    """Load weights into a module; CheckpointError if they do not fit."""
    try:
        module.load_state_dict(weights)
    except Exception as error:  # torch raises many types for invalid state dicts
        raise CheckpointError(
            f"{path}: the weights do not fit the network that the configuration describes: "
            f"{short_reason(error)}"
        ) from error
