"""Studies: YAML files that name a recipe, the options to vary and the quantities to draw.

base: simclr_cifar10                  # name or file of a recipe
set: {train.epochs: 100}              # settings of all runs, which override the recipe
grid:                                 # every combination is trained
  view.num_views: [2, 4, 8]           # either values of one option,
  augmentation:                       # or labels with several settings each, `base` among them
    crop: {view.gray: 0.0}
    crop + gray: {view.gray: 0.2}
    BYOL: {base: byol_cifar10}
seeds: [0, 1, 2]
x: view.num_views                     # an axis of the grid
y: scores.knn                         # a number in result.json, or a list of them: one line each
lines: augmentation                   # axis with one line per label; other axes have one panel each
scale: log                            # of x, if it is numeric: log or linear
frontier: true                        # also draw error over training time with the Pareto frontier
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from ffcv_ssl.cli.config.file import load_mapping
from ffcv_ssl.errors import ConfigError
from ffcv_ssl.system.names import did_you_mean
from ffcv_ssl.system.paths import expanded_path

STUDIES = Path(__file__).resolve().parent / "studies"
BASE = "base"
KEYS = ("title", BASE, "set", "grid", "seeds", "x", "y", "lines", "scale", "frontier")
Label = float | int | str
Settings = Mapping[str, Any]  # "section.field" -> value


@dataclass(frozen=True)
class Study:
    """The runs to train and the quantities to draw.

    Parameters
    ----------
    name
        Name of the file without its extension.
    title
        Title of the figure.
    base
        Name or file of a recipe. Empty if every label of an axis has its own.
    settings
        Settings of all runs.
    axes
        Axis → label → settings of the label, perhaps with `base`.
    seeds
        Seeds to train every point of the grid with.
    x
        Axis to draw as x.
    y
        Keys of result.json to draw as y.
    lines
        Axis with one line per label, or empty.
    log_x
        Whether x is logarithmic.
    frontier
        Whether to draw error over training time too.
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
        """Return whether all labels of an axis are numbers."""
        return all(isinstance(label, (int, float)) for label in self.axes[axis])

    def points(self) -> list[dict[str, Label]]:
        """Return every combination of labels as axis → label; the first axis varies slowest."""
        return [
            dict(zip(self.axes, labels, strict=True)) for labels in product(*self.axes.values())
        ]


def study_names() -> list[str]:
    """Return the names of the installed studies, which can be used in place of a file."""
    return sorted(path.stem for path in STUDIES.glob("*.yaml"))


def read_study(path: str) -> Study:
    """Read a study.

    Parameters
    ----------
    path
        The file, or the name of an installed study.

    Returns
    -------
    Study
        The study, with its keys and labels checked. `cells.make_cells` checks the settings.

    Raises
    ------
    ConfigError
        If there is no such file, or it does not have the form described above.
    """
    file = Path(expanded_path(path))
    if not file.exists():
        names = study_names()
        if path not in names:
            hint = did_you_mean(path, names)
            raise ConfigError(f"{path}: no such file or study. Studies: {', '.join(names)}.{hint}")
        file = STUDIES / f"{path}.yaml"
    content = load_mapping(file)
    _check_keys(path, content)
    axes = {
        str(axis): _axis(f"{path}: grid: {axis}", str(axis), labels)
        for axis, labels in content["grid"].items()
    }
    _check_drawn_axes(path, content, axes)
    _check_values(path, content, axes)
    base = str(content.get(BASE, ""))
    if not base and not any(
        all(BASE in settings for settings in labels.values()) for labels in axes.values()
    ):
        raise ConfigError(
            f"{path}: the study has no '{BASE}', and no axis whose labels have one each."
        )
    y = content["y"]
    return Study(
        name=file.stem,
        title=str(content.get("title", file.stem)),
        base=base,
        settings=_settings(f"{path}: set", content.get("set") or {}),
        axes=axes,
        seeds=content.get("seeds", [0]),
        x=content["x"],
        y=[str(key) for key in (y if isinstance(y, list) else [y])],
        lines=content.get("lines", ""),
        log_x=content.get("scale", "linear") == "log",
        frontier=content.get("frontier", False),
    )


def _check_keys(path: str, content: Mapping[Any, Any]) -> None:
    """Raise ConfigError for unknown and missing keys."""
    for key in content:
        if key not in KEYS:
            hint = did_you_mean(str(key), KEYS)
            raise ConfigError(f"{path}: a study has no '{key}'. It has: {', '.join(KEYS)}.{hint}")
    for key in ("grid", "x", "y"):
        if not content.get(key):
            raise ConfigError(f"{path}: the study has no '{key}'.")
    if not isinstance(content["grid"], dict):
        kind = type(content["grid"]).__name__
        raise ConfigError(f"{path}: grid: got a {kind}, wanted axes with their values.")


def _check_drawn_axes(path: str, content: Mapping[Any, Any], axes: Mapping[str, Any]) -> None:
    """Raise ConfigError if `x` and `lines` are not two different axes."""
    for key in ("x", "lines"):
        if not isinstance(content.get(key, ""), str):
            kind = type(content[key]).__name__
            raise ConfigError(f"{path}: {key}: got a {kind}, wanted the name of an axis.")
        if content.get(key, content["x"]) not in axes:
            known = ", ".join(axes)
            raise ConfigError(
                f"{path}: {key}: the grid has no axis '{content[key]}'. Axes: {known}."
            )
    if content.get("lines") == content["x"]:
        raise ConfigError(f"{path}: lines: an axis cannot be x and lines at once.")


def _check_values(
    path: str, content: Mapping[Any, Any], axes: Mapping[str, Mapping[Label, Settings]]
) -> None:
    """Raise ConfigError for invalid seeds, scale and frontier."""
    seeds, scale = content.get("seeds", [0]), content.get("scale", "linear")
    is_list = isinstance(seeds, list) and bool(seeds) and len(set(seeds)) == len(seeds)
    if not is_list or not all(type(seed) is int for seed in seeds):
        raise ConfigError(
            f"{path}: seeds: got {seeds!r}, wanted a list of different whole numbers."
        )
    if scale not in ("log", "linear"):
        raise ConfigError(f"{path}: scale: got {scale!r}, wanted log or linear.")
    if type(content.get("frontier", False)) is not bool:
        got = content["frontier"]
        raise ConfigError(f"{path}: frontier: got {got!r}, wanted true or false.")
    labels = axes[content["x"]]
    if scale == "log" and not all(
        isinstance(label, (int, float)) and label > 0 for label in labels
    ):
        raise ConfigError(
            f"{path}: scale: a log scale needs numbers above 0 on the axis '{content['x']}'."
        )


def _axis(where: str, axis: str, labels: Any) -> dict[Label, Settings]:
    """Return the labels of an axis with their settings, from a list of values or from a mapping."""
    found: dict[Label, Settings]
    if isinstance(labels, list) and labels:
        if "." not in axis:
            raise ConfigError(
                f"{where}: a list needs the name of an option, section.field; "
                "or give labels with their settings."
            )
        found = {_label(value): {axis: value} for value in labels}
    elif isinstance(labels, dict) and labels:
        found = {
            _label(name): _settings(f"{where}: {name}", settings or {}, (BASE,))
            for name, settings in labels.items()
        }
    else:
        raise ConfigError(
            f"{where}: got {labels!r}, wanted a list of values, or labels with their settings."
        )
    if len(found) < len(labels):
        raise ConfigError(f"{where}: a value is given twice.")
    return found


def _settings(where: str, settings: Any, other_keys: Sequence[str] = ()) -> Settings:
    """Return settings; raise ConfigError unless they are `section.field: value`."""
    if not isinstance(settings, dict):
        raise ConfigError(f"{where}: got {settings!r}, wanted {{section.field: value}}.")
    for option, value in settings.items():
        if option not in other_keys and not re.fullmatch(r"\w+\.\w+", str(option)):
            raise ConfigError(f"{where}: '{option}' is not an option; write section.field.")
        if isinstance(value, (dict, list)):
            kind = type(value).__name__
            raise ConfigError(f"{where}: {option}: got a {kind}, wanted one value.")
    return settings


def _label(value: Any) -> Label:
    """Return a value as a number if it is one, even as text (`1e-3` in YAML), else as text."""
    try:
        number = (
            value if type(value) in (int, float) else float(value if type(value) is str else "")
        )
    except ValueError:
        return str(value)
    return number if math.isfinite(number) else str(value)
