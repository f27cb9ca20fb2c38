"""`ffcv-ssl preview`: draw samples of a file next to their augmented views."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ffcv_ssl.cli.commands.train import load_recipe, split_method
from ffcv_ssl.cli.config.parser import parse
from ffcv_ssl.cli.config.sections import FileConfig
from ffcv_ssl.errors import ConfigError
from ffcv_ssl.system.names import printable
from ffcv_ssl.system.paths import LocalPath

DESCRIPTION = (
    "Draw samples of a .beton file next to their augmented views, and mark the crop box of each "
    "view in the original. With --config-file=RECIPE or --method=METHOD, the views are those that "
    "`ffcv-ssl train` renders with the same options."
)
OPTIONS = {  # options of the section that each preset accepts
    "simclr": ("size", "n", "strength"),
    "byol": ("size",),
    "barlow_twins": ("size",),
    "vicreg": ("size",),
    "emp_ssl": ("size", "n", "patch"),
    "multi_crop": (),
    "plain": ("size", "ratio"),
}


@dataclass(frozen=True)
class ViewConfig:
    """The views to draw; an option that is none has the default of the preset."""

    preset: Literal[
        "simclr", "byol", "barlow_twins", "vicreg", "emp_ssl", "multi_crop", "plain"
    ] = field(
        default="simclr", metadata={"help": "View preset; `ffcv_ssl.views` describes each one"}
    )
    size: int | None = field(
        default=None,
        metadata={"help": "Side of a view in pixels, 1 to 4096 (all presets but multi_crop)"},
    )
    n: int | None = field(
        default=None, metadata={"help": "Number of views per image, >= 1 (simclr, emp_ssl)"}
    )
    patch: int | None = field(
        default=None,
        metadata={"help": "Side of the image patch that a view shows, in pixels (emp_ssl)"},
    )
    strength: float | None = field(
        default=None, metadata={"help": "Factor on the strength of the color jitter, >= 0 (simclr)"}
    )
    ratio: float | None = field(
        default=None,
        metadata={
            "help": "Side of the center crop as a fraction of the shorter image side, in (0, 1] "
            "(plain)"
        },
    )

    def options(self) -> dict[str, Any]:
        """Return the keyword arguments for the preset.

        Returns
        -------
        dict
            The options that are not None.

        Raises
        ------
        ConfigError
            If an option is set that the preset does not accept.
        """
        names = ("size", "n", "patch", "strength", "ratio")
        given = {name: value for name in names if (value := getattr(self, name)) is not None}
        for name in given:
            if name not in OPTIONS[self.preset]:
                accepted = ", ".join(OPTIONS[self.preset]) or "no options"
                raise ConfigError(
                    f"--view.{name}: {self.preset} does not take it; it takes {accepted}."
                )
        return given


@dataclass(frozen=True)
class PreviewConfig:
    """The samples to draw and the picture to write."""

    out: LocalPath = field(
        default="views.png",
        metadata={"help": "Path of the picture, .png, .pdf or .svg", "alias": "--out"},
    )
    samples: int = field(default=8, metadata={"help": "Number of samples, >= 1"})
    seed: int = field(
        default=0, metadata={"help": "Seed that selects the samples and draws the views, >= 0"}
    )
    epoch: int = field(default=0, metadata={"help": "Epoch whose views to draw, >= 0"})
    field: str = field(default="image", metadata={"help": "Name of the image field"})

    def __post_init__(self) -> None:
        for name, lowest in (("samples", 1), ("seed", 0), ("epoch", 0)):
            if getattr(self, name) < lowest:
                raise ConfigError(f"{name} is at least {lowest}, got {getattr(self, name)}.")


def main(argv: Sequence[str] | None = None) -> int:
    """Draw the picture and return the exit status."""
    method, arguments = split_method(list(sys.argv[1:] if argv is None else argv))
    view_section = ViewConfig if method is None else load_recipe(method).view
    sections = {"file": FileConfig, "view": view_section, "preview": PreviewConfig}
    configs = parse("ffcv-ssl preview", sections, arguments, DESCRIPTION, recipe=method)
    path, view, preview = configs["file"].path, configs["view"], configs["preview"]
    if Path(preview.out).suffix.lower() not in (".png", ".pdf", ".svg"):
        raise ConfigError(f"--out: got '{preview.out}', wanted a .png, .pdf or .svg file.")
    options = view.options() if method is None else {}

    from ffcv_ssl import views
    from ffcv_ssl.preview import preview_figure
    from ffcv_ssl.system.atomic import resolve_target

    resolve_target(preview.out)
    if method is None:
        pipeline = getattr(views, view.preset)(**options)
        shown = view.preset
    else:
        pipeline = view.pipeline(view.size, view.num_views)
        shown = f"the recipe {method}"
    figure = preview_figure(
        path, pipeline, preview.samples, preview.seed, field=preview.field, epoch=preview.epoch
    )
    figure.savefig(preview.out)
    summary = f"{preview.out}: {preview.samples} samples of {path}, views of {shown}"
    sys.stdout.write(f"{printable(summary)}\n")
    return 0
