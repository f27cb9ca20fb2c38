"""Configuration that a run saved in its folder, read and validated."""

import types
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import yaml

from ffcv_ssl.errors import ConfigError
from ffcv_ssl.system.paths import local_path

RESTORE = "the file was changed or damaged after the run wrote it; restore it."


def read_run(folder: str | Path) -> tuple[str, dict[str, dict[str, Any]]]:
    """Read the method and the configuration of a run.

    Parameters
    ----------
    folder
        Folder of the run (`log.out`).

    Returns
    -------
    method : str
        Name of the method.
    configs : dict
        Section → option → value.

    Raises
    ------
    ConfigError
        If the folder is not that of a run, or its config.yaml is damaged.
    """
    path = Path(local_path(folder)) / "config.yaml"
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"{folder}: not a run folder (config.yaml is missing or unreadable); pass the path "
            "given as log.out."
        ) from error
    except (UnicodeDecodeError, RecursionError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: not valid YAML; {RESTORE}") from error
    if not isinstance(content, dict) or not isinstance(content.get("method"), str):
        raise ConfigError(f"{path}: the method is missing; {RESTORE}")
    for section, values in content.items():
        is_section = isinstance(values, dict) and all(isinstance(name, str) for name in values)
        if section != "method" and not is_section:
            raise ConfigError(f"{path}: section '{section}' is not a mapping; {RESTORE}")
    return content.pop("method"), content


def read_section(folder: Path, name: str, kind: type, values: Mapping[str, Any]) -> Any:
    """Build one section of the configuration.

    Parameters
    ----------
    folder
        Folder of the run, for messages.
    name
        Name of the section.
    kind
        Dataclass of the section.
    values
        Option → value. Options that a later version added get their defaults.

    Returns
    -------
    kind
        Instance of the dataclass.

    Raises
    ------
    ConfigError
        If an option is unknown, or its value has the wrong type or is out of range.
    """
    unknown = set(values) - {field.name for field in fields(kind)}
    if unknown:
        raise ConfigError(
            f"{folder}: config.yaml sets {name}.{min(unknown)}, which this version does not know."
        )
    hints = get_type_hints(kind)
    for option, value in values.items():
        if not _fits(value, hints[option]):
            raise ConfigError(
                f"{folder}: config.yaml sets {name}.{option}={value!r}, which has the wrong type; "
                f"{RESTORE}"
            )
    try:
        return kind(**values)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{folder}: config.yaml, section {name}: {error}") from error


def _fits(value: Any, annotation: Any) -> bool:
    """Return whether a value has the type of an option.

    Types are int, float, str, bool, `Literal[…]`, and unions of these and None.
    """
    if get_origin(annotation) is Literal:
        return any(
            value == choice and type(value) is type(choice) for choice in get_args(annotation)
        )
    if get_origin(annotation) in (Union, types.UnionType):
        return any(_fits(value, kind) for kind in get_args(annotation))
    return bool(type(value) is annotation or (annotation is float and type(value) is int))
