"""Cells: the training runs of a study, one per point of its grid and seed, and their results."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ffcv_ssl.cli.commands.train import METHODS, load_recipe
from ffcv_ssl.cli.config.checkers import NONE
from ffcv_ssl.cli.config.file import METHOD, load_mapping
from ffcv_ssl.cli.config.parser import config_dict, parse
from ffcv_ssl.errors import ConfigError
from ffcv_ssl.recipes.study import BASE, Label, Settings, Study
from ffcv_ssl.runs import read_run
from ffcv_ssl.system.names import did_you_mean
from ffcv_ssl.system.paths import expanded_path

RECIPES = Path(__file__).resolve().parent
# Options that do not change a result. A finished cell may differ in them.
IRRELEVANT = {
    ("train", "resume"),
    ("train", "device"),
    ("train", "threads"),
    ("train", "checkpoint_minutes"),
    ("data", "workers"),
    ("data", "cache"),
}


@dataclass(frozen=True)
class Cell:
    """One training run of a study.

    Parameters
    ----------
    point
        Axis → label.
    seed
        `train.seed` of the run.
    folder
        `log.out` of the run.
    arguments
        Arguments for `ffcv-ssl train`.
    config
        Configuration that results from them: section → field → value.
    """

    point: Mapping[str, Label]
    seed: int
    folder: Path
    arguments: Sequence[str]
    config: Mapping[str, Mapping[str, Any]]

    @property
    def name(self) -> str:
        """Labels and seed, for messages."""
        labels = (f"{axis.rpartition('.')[2]} {label}" for axis, label in self.point.items())
        return ", ".join([*labels, f"seed {self.seed}"])


@dataclass(frozen=True)
class Outcome:
    """A finished cell.

    Parameters
    ----------
    cell
        The cell.
    result
        Content of its result.json.
    """

    cell: Cell
    result: Mapping[str, Any]


def make_cells(
    study: Study, out: Path, base: str = "", overrides: Settings | None = None
) -> list[Cell]:
    """Resolve every cell of a study, so that invalid settings are found before training starts.

    Parameters
    ----------
    study
        The study.
    out
        Folder of the sweep.
    base
        Recipe to use instead of those of the study. `{method}` in it is replaced by the method of
        the recipe that it stands in for.
    overrides
        Settings of all cells, which override everything else. `train.seed`, one or several
        separated by commas, replaces the seeds of the study.

    Returns
    -------
    list of Cell
        All seeds of the first point, then those of the second, and so on.

    Raises
    ------
    ConfigError
        If a recipe is unknown, a program rejects the settings of a cell, `overrides` sets an option
        that an axis varies, a `base` without `{method}` would replace several recipes, or two cells
        would have the same folder.
    """
    overrides = dict(overrides or {})
    seeds: Sequence[Any] = study.seeds
    if "train.seed" in overrides:
        seeds = str(overrides.pop("train.seed")).split(",")
    _check_overrides(study, base, overrides)
    cells = []
    for point in study.points():
        settings: dict[str, Any] = {BASE: study.base, **study.settings}
        for axis, label in point.items():
            settings |= study.axes[axis][label]
        recipe, method = _recipe(str(settings.pop(BASE)), base)
        for seed in seeds:
            folder = out / "cells" / _folder_name(point, seed)
            options = {**settings, **overrides, "train.seed": seed}
            flags = [f"--{option}={_flag_value(value)}" for option, value in options.items()]
            arguments = [f"--config-file={recipe}", *flags, f"--log.out={folder}"]
            try:
                config = config_dict(parse(method, load_recipe(method).sections, arguments))
            except ConfigError as error:
                labels = ", ".join(f"{axis} {label}" for axis, label in point.items())
                raise ConfigError(f"{study.name}, {labels}: {error}") from error
            cells.append(Cell(point, config["train"]["seed"], folder, arguments, config))
    folders = [cell.folder for cell in cells]
    for folder in folders:
        if folders.count(folder) > 1:
            raise ConfigError(
                f"{study.name}: two cells would share the folder {folder}; give their labels "
                "clearer names."
            )
    return cells


def finished_outcome(cell: Cell) -> Outcome | None:
    """Return the outcome of a cell; None if it is not finished or has another configuration."""
    result = _read_result(cell.folder)
    return None if result is None or difference_of(cell) else Outcome(cell, result)


def difference_of(cell: Cell) -> str:
    """Return the first option in which the run in the cell's folder differs from the cell.

    Empty if there is no difference or no run. An option that the run does not have counts as equal,
    because an older version wrote the run.
    """
    result = _read_result(cell.folder)
    before: Any = {}
    try:
        if result:
            before = result["config"]
        elif (cell.folder / "config.yaml").exists():
            before = read_run(cell.folder)[1]
    except ConfigError as error:
        return f"a damaged configuration ({error})"
    for section, fields in cell.config.items():
        options = before.get(section, {})
        for name, value in fields.items():
            old = options.get(name, value) if isinstance(options, dict) else options
            if section != "log" and (section, name) not in IRRELEVANT and old != value:
                return f"{section}.{name}={old}, not {value}"
    return ""


def _check_overrides(study: Study, base: str, overrides: Settings) -> None:
    """Raise ConfigError if overrides would make the points of a study equal."""
    for axis, labels in study.axes.items():
        varied = {option for settings in labels.values() for option in settings}
        for option in varied & overrides.keys():
            raise ConfigError(
                f"--{option}: the study varies it on its axis '{axis}'; leave it out, or edit a "
                f"copy of {study.name}.yaml."
            )
    if base and "{method}" not in base:
        axes = study.axes.values()
        if any(BASE in settings for labels in axes for settings in labels.values()):
            raise ConfigError(
                f"--sweep.base={base}: the study compares recipes; write "
                "--sweep.base={method}_cpu for the CPU recipe of each method."
            )


def _flag_value(value: Any) -> str:
    """Return a value as a flag spells it."""
    return NONE if value is None else str(value)


def _recipe(name: str, replacement: str) -> tuple[str, str]:
    """Return file and method of a recipe, or of the one that replaces it."""
    if replacement and "{method}" not in replacement:
        name = replacement
    method = _method(name)
    if replacement and "{method}" in replacement:
        name = replacement.replace("{method}", method)
        method = _method(name)
    return _recipe_path(name), method


def _recipe_path(name: str) -> str:
    """Return the path of a file, or of the recipe with this name next to this module."""
    path = expanded_path(name)
    return path if Path(path).exists() else str(RECIPES / f"{name}.yaml")


def _method(name: str) -> str:
    """Return the method of a recipe."""
    path = _recipe_path(name)
    if not Path(path).is_file():
        names = sorted(file.stem for file in RECIPES.glob("*.yaml"))
        hint = did_you_mean(name, names)
        raise ConfigError(f"{name}: no such recipe. Recipes: {', '.join(names)}.{hint}")
    method = load_mapping(path).get(METHOD)
    if not isinstance(method, str) or method not in METHODS:
        known = ", ".join(METHODS)
        raise ConfigError(f"{name}: the recipe's method is '{method}'. Methods: {known}.")
    return method


def _folder_name(point: Mapping[str, Label], seed: Any) -> str:
    """Return the name of a cell's folder."""
    labels = (f"{axis.rpartition('.')[2]}={label}" for axis, label in point.items())
    return ",".join(re.sub(r"[^\w.+=-]+", "", word) for word in (*labels, f"seed={seed}"))


def _read_result(folder: Path) -> dict[str, Any] | None:
    """Return result.json of a folder; None if it is absent or damaged."""
    try:
        result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError, RecursionError):
        return None
    parts = (result.get("scores"), result.get("config")) if isinstance(result, dict) else (None,)
    return result if all(isinstance(part, dict) for part in parts) else None
