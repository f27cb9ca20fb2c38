"""A finished run, or an exported backbone, back as a method that computes features."""

import json
import types
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

import yaml
from torch import nn

from ffcv_ssl.errors import CheckpointError, ConfigError
from ffcv_ssl.paths import local_path, utf8_path
from ffcv_ssl.ssl import Method, Normalize
from ffcv_ssl.train.build import build_backbone
from ffcv_ssl.train.checkpoint import kept_name, read_weights, short_reason
from ffcv_ssl.train.config import DataConfig, ModelConfig, TrainConfig, require
from ffcv_ssl.train.export import weights_checksum
from ffcv_ssl.train.views import CropViews

if TYPE_CHECKING:
    from ffcv_ssl.train.recipe import Recipe


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


def read_run(folder: str | Path) -> tuple[str, dict[str, dict[str, Any]]]:
    """Name of the method and configuration, by section, of a run.

    Raises
    ------
    ConfigError
        If the folder holds no run.
    """
    path = Path(local_path(folder)) / "config.yaml"
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{folder}: no folder of a run: there is no config.yaml that can be read. Give what log.out named.") from error
    except (UnicodeDecodeError, RecursionError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: no valid YAML; it is not as the run wrote it.") from error
    if not isinstance(content, dict) or not isinstance(content.get("method"), str):
        raise ConfigError(f"{path}: names no method; it is not as a run wrote it.")
    for section, values in content.items():
        if section != "method" and not (isinstance(values, dict) and all(isinstance(name, str) for name in values)):
            raise ConfigError(f"{path}: section '{section}' is no mapping of options; it is not as a run wrote it.")
    return content.pop("method"), content


def restore(folder: str | Path, recipe: "Recipe", epoch: int = 0) -> Trained:
    """Build the method of a run and give it the weights of its checkpoint, or those kept after an epoch.

    Parameters
    ----------
    folder
        Of the run, with config.yaml and checkpoint.pt.
    recipe
        The one that `read_run` names.
    epoch
        After which the weights were kept (train.keep); 0: those of the last checkpoint.

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
    sections = {section: _section(folder, section, kind, content.get(section, {})) for section, kind in recipe.sections.items()}
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


def _section(folder: Path, name: str, kind: type, values: Mapping[str, Any]) -> Any:
    """One section of the configuration; what a later version added has its default."""
    unknown = set(values) - {field.name for field in fields(kind)}
    if unknown:
        raise ConfigError(f"{folder}: config.yaml sets {name}.{min(unknown)}, which this version does not know.")
    hints = get_type_hints(kind)
    for option, value in values.items():
        if not _fits(value, hints[option]):
            raise ConfigError(f"{folder}: config.yaml sets {name}.{option}={value!r}; it is not as a run wrote it.")
    try:
        return kind(**values)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{folder}: config.yaml, section {name}: {error}") from error


def _fits(value: Any, annotation: Any) -> bool:
    """Whether a value is of an option's type: int, float, str, bool, `Literal[…]` or a union of these and None."""
    if get_origin(annotation) is Literal:
        return any(value == choice and type(value) is type(choice) for choice in get_args(annotation))
    if get_origin(annotation) in (Union, types.UnionType):
        return any(_fits(value, kind) for kind in get_args(annotation))
    return type(value) is annotation or (annotation is float and type(value) is int)


def _load(module: nn.Module, weights: Mapping[str, Any], path: Path) -> None:
    try:
        module.load_state_dict(weights)
    except Exception as error:  # torch raises many types for state dicts that are none
        reason = short_reason(error)
        raise CheckpointError(f"{path}: the weights do not fit the network that its configuration describes: {reason}") from error
