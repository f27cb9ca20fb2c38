"""The configuration that a run wrote into its folder, read back and checked."""

import types
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import yaml

from ffcv_ssl.errors import ConfigError
from ffcv_ssl.system.paths import local_path


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


def read_section(folder: Path, name: str, kind: type, values: Mapping[str, Any]) -> Any:
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
