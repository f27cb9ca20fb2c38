"""A study: one YAML file that names a recipe, what is varied, and what is drawn over what.

base: simclr_cifar10                  # a recipe's name, or a file
set: {train.epochs: 100}              # for all cells, over what the recipe says
grid:                                 # every combination is trained
  view.num_views: [2, 4, 8]           # values of one option
  augmentation:                       # or names for several settings each, a recipe of its own among them
    crop: {view.gray: 0.0}
    crop + grey: {view.gray: 0.2}
    BYOL: {base: byol_cifar10}
seeds: [0, 1, 2]
x: view.num_views                     # an axis of the grid
y: scores.knn                         # a number of result.json, or a list of them: one line each
lines: augmentation                   # the axis that makes one line each; axes named nowhere make one panel each
scale: log                            # of x, where it is numbers: log or linear
frontier: true                        # also error over training time, with what no other cell beats in both
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from itertools import product
from pathlib import Path
from typing import Any

from ffcv_ssl.cli.commands.train import METHODS
from ffcv_ssl.cli.config.checkers import NONE
from ffcv_ssl.cli.config.file import METHOD, load_mapping
from ffcv_ssl.cli.config.parser import config_dict, parse
from ffcv_ssl.errors import ConfigError
from ffcv_ssl.system.names import did_you_mean
from ffcv_ssl.system.paths import expanded_path

RECIPES = Path(__file__).resolve().parent
STUDIES = RECIPES / "studies"
BASE = "base"
KEYS = ("title", BASE, "set", "grid", "seeds", "x", "y", "lines", "scale", "frontier")
Label = float | int | str
Settings = Mapping[str, Any]  # "section.field" -> value


@dataclass(frozen=True)
class Study:
    """What to train and what to draw.

    Attributes
    ----------
    name
        Of the file, without its ending.
    title
        Above the picture.
    base
        Recipe by name or file; empty where every variant brings its own.
    settings
        For all cells.
    axes
        Axis → label of a place on it → its settings, perhaps with `base`.
    seeds
        Every point is trained once with each.
    x, y, lines
        Axis; keys of result.json; axis or "".
    log_x, frontier
        How it is drawn.
    """

    name: str
    title: str
    base: str
    settings: Settings
    axes: Mapping[str, Mapping[Label, Settings]]
    seeds: Sequence[int]
    x: str
    y: Sequence[str]
    lines: str
    log_x: bool
    frontier: bool

    def is_numeric(self, axis: str) -> bool:
        """Whether the axis holds numbers, or names."""
        return all(isinstance(label, (int, float)) for label in self.axes[axis])

    def points(self) -> list[dict[str, Label]]:
        """Every combination of places: axis → label; the first axis varies slowest."""
        return [
            dict(zip(self.axes, labels, strict=True)) for labels in product(*self.axes.values())
        ]


@dataclass(frozen=True)
class Cell:
    """One training run of a study.

    Attributes
    ----------
    point, seed
        Its place.
    folder
        `log.out` of the run.
    arguments
        Of `ffcv-ssl train`.
    config
        What the program makes of them: section → field → value.
    """

    point: Mapping[str, Label]
    seed: int
    folder: Path
    arguments: Sequence[str]
    config: Mapping[str, Mapping[str, Any]]

    @property
    def name(self) -> str:
        """The cell in words."""
        return ", ".join(
            [
                *(f"{axis.rpartition('.')[2]} {label}" for axis, label in self.point.items()),
                f"seed {self.seed}",
            ]
        )


def study_names() -> list[str]:
    """Names of the studies beside this file, which stand for their files."""
    return sorted(path.stem for path in STUDIES.glob("*.yaml"))


def read_study(path: str) -> Study:
    """Read a study's file, or the study of that name.

    Raises
    ------
    ConfigError
        If there is no such file, or it is no study as described above.
    """
    file = Path(expanded_path(path))
    if not file.exists():
        if path not in study_names():
            raise ConfigError(
                f"{path}: no such file or study. Studies: {', '.join(study_names())}.{did_you_mean(path, study_names())}"
            )
        file = STUDIES / f"{path}.yaml"
    content = load_mapping(file)
    for key in content:
        if key not in KEYS:
            raise ConfigError(
                f"{path}: a study has no '{key}'. It has: {', '.join(KEYS)}.{did_you_mean(str(key), KEYS)}"
            )
    for key in ("grid", "x", "y"):
        if not content.get(key):
            raise ConfigError(f"{path}: the study has no '{key}'.")
    if not isinstance(content["grid"], dict):
        raise ConfigError(
            f"{path}: grid: got a {type(content['grid']).__name__}, wanted axes with their values."
        )
    axes = {
        str(axis): _places(f"{path}: grid: {axis}", str(axis), places)
        for axis, places in content["grid"].items()
    }
    for key in ("x", "lines"):
        if not isinstance(content.get(key, ""), str):
            raise ConfigError(
                f"{path}: {key}: got a {type(content[key]).__name__}, wanted the name of an axis."
            )
        if content.get(key, content["x"]) not in axes:
            raise ConfigError(
                f"{path}: {key}: '{content[key]}' is no axis of the grid. Axes: {', '.join(axes)}."
            )
    if content.get("lines") == content["x"]:
        raise ConfigError(f"{path}: lines: an axis cannot be x and lines at once.")
    seeds, scale, y = content.get("seeds", [0]), content.get("scale", "linear"), content["y"]
    if (
        not isinstance(seeds, list)
        or not seeds
        or len(set(seeds)) < len(seeds)
        or not all(type(seed) is int for seed in seeds)
    ):
        raise ConfigError(
            f"{path}: seeds: got {seeds!r}, wanted a list of different whole numbers."
        )
    if scale not in ("log", "linear"):
        raise ConfigError(f"{path}: scale: got {scale!r}, wanted log or linear.")
    if type(content.get("frontier", False)) is not bool:
        raise ConfigError(f"{path}: frontier: got {content['frontier']!r}, wanted true or false.")
    if scale == "log" and not all(
        isinstance(label, (int, float)) and label > 0 for label in axes[content["x"]]
    ):
        raise ConfigError(
            f"{path}: scale: a log scale needs numbers above 0 on the axis '{content['x']}'."
        )
    base = str(content.get(BASE, ""))
    if not base and not any(
        all(BASE in place for place in places.values()) for places in axes.values()
    ):
        raise ConfigError(
            f"{path}: the study has no '{BASE}', and no axis whose variants each bring one."
        )
    return Study(
        name=file.stem,
        title=str(content.get("title", file.stem)),
        base=base,
        settings=_settings(f"{path}: set", content.get("set") or {}),
        axes=axes,
        seeds=seeds,
        x=content["x"],
        y=[str(key) for key in (y if isinstance(y, list) else [y])],
        lines=content.get("lines", ""),
        log_x=scale == "log",
        frontier=content.get("frontier", False),
    )


def make_cells(
    study: Study, out: Path, base: str = "", overrides: Settings | None = None
) -> list[Cell]:
    """Resolve every cell of a study, so that a wrong one is found before the first is trained.

    Parameters
    ----------
    study
        As read.
    out
        Folder of the sweep.
    base
        Recipe to use instead of the study's own; `{method}` in it stands for the method of the recipe that it replaces.
    overrides
        Settings for all cells, over everything else. `train.seed`, one or several with commas between, replaces the study's seeds.

    Raises
    ------
    ConfigError
        If a recipe is unknown or a cell's program refuses the settings, if `overrides` set what an axis varies, if one plain `base`
        is to replace several, or if two cells would share a folder.
    """
    overrides = dict(overrides or {})
    seeds = (
        str(overrides.pop("train.seed")).split(",") if "train.seed" in overrides else study.seeds
    )
    for axis, places in study.axes.items():
        for option in {option for place in places.values() for option in place} & overrides.keys():
            raise ConfigError(
                f"--{option}: the study varies it on its axis '{axis}'; leave it out, or edit a copy of {study.name}.yaml."
            )
    if (
        base
        and "{method}" not in base
        and any(BASE in place for places in study.axes.values() for place in places.values())
    ):
        raise ConfigError(
            f"--sweep.base={base}: the study compares recipes; write --sweep.base={{method}}_cpu for the CPU's of each method."
        )
    cells = []
    for point in study.points():
        settings: dict[str, Any] = {BASE: study.base, **study.settings}
        for axis, label in point.items():
            settings |= study.axes[axis][label]
        path, method = _recipe(str(settings.pop(BASE)), base)
        for seed in seeds:
            folder = out / "cells" / _folder_name(point, seed)
            flags = [
                f"--{option}={_flag_value(value)}"
                for option, value in {**settings, **overrides, "train.seed": seed}.items()
            ]
            arguments = [f"--config-file={path}", *flags, f"--log.out={folder}"]
            try:
                config = config_dict(
                    parse(
                        method,
                        import_module(f"ffcv_ssl.recipes.{method}").RECIPE.sections,
                        arguments,
                    )
                )
            except ConfigError as error:
                raise ConfigError(
                    f"{study.name}, {', '.join(f'{axis} {label}' for axis, label in point.items())}: {error}"
                ) from error
            cells.append(Cell(point, config["train"]["seed"], folder, arguments, config))
    folders = [cell.folder for cell in cells]
    for folder in folders:
        if folders.count(folder) > 1:
            raise ConfigError(
                f"{study.name}: two cells would share the folder {folder}; give their places clearer names."
            )
    return cells


def _places(where: str, axis: str, places: Any) -> dict[Label, Settings]:
    """The places of one axis with their settings, from a list of values or from named variants."""
    found: dict[Label, Settings]
    if isinstance(places, list) and places:
        if "." not in axis:
            raise ConfigError(
                f"{where}: a list is of values for an option 'section.field'; give names with settings instead."
            )
        found = {_label(value): {axis: value} for value in places}
    elif isinstance(places, dict) and places:
        found = {
            _label(name): _settings(f"{where}: {name}", settings or {}, may=(BASE,))
            for name, settings in places.items()
        }
    else:
        raise ConfigError(
            f"{where}: got {places!r}, wanted a list of values, or names with their settings."
        )
    if len(found) < len(places):
        raise ConfigError(f"{where}: a value is given twice.")
    return found


def _settings(where: str, settings: Any, may: Sequence[str] = ()) -> Settings:
    """Check `section.field: value`, and nothing else."""
    if not isinstance(settings, dict):
        raise ConfigError(f"{where}: got {settings!r}, wanted {{section.field: value}}.")
    for option, value in settings.items():
        if option not in may and not re.fullmatch(r"\w+\.\w+", str(option)):
            raise ConfigError(f"{where}: '{option}' is no option; write section.field.")
        if isinstance(value, (dict, list)):
            raise ConfigError(f"{where}: {option}: got a {type(value).__name__}, wanted one value.")
    return settings


def _label(value: Any) -> Label:
    """A number where the value is one, also if YAML took it for text (`1e-3` has no dot); else text."""
    try:
        number = (
            value if type(value) in (int, float) else float(value if type(value) is str else "")
        )
    except ValueError:
        return str(value)
    return number if math.isfinite(number) else str(value)


def _flag_value(value: Any) -> str:
    """A value as a flag spells it."""
    return NONE if value is None else str(value)


def _recipe(name: str, replacement: str) -> tuple[str, str]:
    """File (or name) of the recipe, or of the one that replaces it, and its method."""
    if replacement and "{method}" not in replacement:
        name = replacement
    method = _method(name)
    if replacement and "{method}" in replacement:
        name = replacement.replace("{method}", method)
        method = _method(name)
    return _recipe_path(name), method


def _recipe_path(name: str) -> str:
    """The file itself, or the recipe of that name beside this file."""
    path = expanded_path(name)
    return path if Path(path).exists() else str(RECIPES / f"{name}.yaml")


def _method(name: str) -> str:
    """The method that a recipe names."""
    if not Path(_recipe_path(name)).is_file():
        names = sorted(path.stem for path in RECIPES.glob("*.yaml"))
        raise ConfigError(
            f"{name}: no such recipe. Recipes: {', '.join(names)}.{did_you_mean(name, names)}"
        )
    method = load_mapping(_recipe_path(name)).get(METHOD)
    if method not in METHODS:
        raise ConfigError(
            f"{name}: the recipe's method is '{method}'. Methods: {', '.join(METHODS)}."
        )
    return method


def _folder_name(point: Mapping[str, Label], seed: Any) -> str:
    """The cell as the name of a folder."""
    words = [
        *(f"{axis.rpartition('.')[2]}={label}" for axis, label in point.items()),
        f"seed={seed}",
    ]
    return ",".join(re.sub(r"[^\w.+=-]+", "", word) for word in words)
