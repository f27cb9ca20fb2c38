"""`ffcv-ssl preview`: samples of a file beside their augmented views, as a picture."""

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
    "Draw samples of a .beton file beside their augmented views, with each view's crop box on the original. "
    "With --config-file=RECIPE or --method=METHOD, the views are those that `ffcv-ssl train` renders with the same options."
)
# Which of the section's options each preset takes.
OPTIONS = {
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
    """Which views; an option that is none keeps the preset's own value."""

    preset: Literal["simclr", "byol", "barlow_twins", "vicreg", "emp_ssl", "multi_crop", "plain"] = field(
        default="simclr", metadata={"help": "preset to preview; see ffcv_ssl.views"}
    )
    size: int | None = field(default=None, metadata={"help": "side of a view in pixels, 1 to 4096 (not for multi_crop)"})
    n: int | None = field(default=None, metadata={"help": "views of each image, >= 1 (simclr, emp_ssl)"})
    patch: int | None = field(default=None, metadata={"help": "side of the patch of the image that a view shows, in pixels (emp_ssl)"})
    strength: float | None = field(default=None, metadata={"help": "factor of the colour jitter, >= 0 (simclr)"})
    ratio: float | None = field(default=None, metadata={"help": "share of the shorter side that the centre crop keeps, in (0, 1] (plain)"})

    def options(self) -> dict[str, Any]:
        """What the preset is called with.

        Raises
        ------
        ConfigError
            If an option was given that the preset does not take.
        """
        given = {name: getattr(self, name) for name in ("size", "n", "patch", "strength", "ratio") if getattr(self, name) is not None}
        for name in given:
            if name not in OPTIONS[self.preset]:
                takes = ", ".join(OPTIONS[self.preset]) or "no options"
                raise ConfigError(f"--view.{name}: {self.preset} does not take it; it takes {takes}.")
        return given


@dataclass(frozen=True)
class PreviewConfig:
    """What is drawn."""

    out: LocalPath = field(default="views.png", metadata={"help": "the picture to write, .png, .pdf or .svg", "alias": "--out"})
    samples: int = field(default=8, metadata={"help": "samples, chosen by the seed, >= 1"})
    seed: int = field(default=0, metadata={"help": "of the choice and of the views, >= 0"})
    epoch: int = field(default=0, metadata={"help": "draw the views of this epoch, >= 0"})
    field: str = field(default="image", metadata={"help": "name of the image field"})

    def __post_init__(self) -> None:
        for name, lowest in (("samples", 1), ("seed", 0), ("epoch", 0)):
            if getattr(self, name) < lowest:
                raise ConfigError(f"{name} is at least {lowest}, got {getattr(self, name)}.")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; errors pass to the caller."""
    method, arguments = split_method(list(sys.argv[1:] if argv is None else argv))
    view_section = ViewConfig if method is None else load_recipe(method).view
    sections = {"file": FileConfig, "view": view_section, "preview": PreviewConfig}
    configs = parse("ffcv-ssl preview", sections, arguments, DESCRIPTION, recipe=method)
    view, preview = configs["view"], configs["preview"]
    if Path(preview.out).suffix.lower() not in (".png", ".pdf", ".svg"):
        raise ConfigError(f"--out: the name of a .png, .pdf or .svg file, got '{preview.out}'.")
    options = view.options() if method is None else {}

    from ffcv_ssl import views
    from ffcv_ssl.preview import preview_figure
    from ffcv_ssl.system.atomic import resolve_target

    resolve_target(preview.out)
    pipeline = getattr(views, view.preset)(**options) if method is None else view.pipeline(view.size, view.num_views)
    path = configs["file"].path
    figure = preview_figure(path, pipeline, preview.samples, preview.seed, field=preview.field, epoch=preview.epoch)
    figure.savefig(preview.out)
    shown = view.preset if method is None else f"the recipe {method}"
    sys.stdout.write(printable(f"{preview.out}: {preview.samples} samples of {path}, views of {shown}") + "\n")
    return 0
