"""What the commands on finished runs share: which run, which files, and the run itself back from its folder."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ffcv_ssl.cli.commands.train import METHODS, load_recipe
from ffcv_ssl.errors import ConfigError
from ffcv_ssl.system.paths import LocalPath
from ffcv_ssl.train.config import option, read_unset

if TYPE_CHECKING:
    from ffcv_ssl.evaluate import Trained

EXPORTED = ".safetensors"


@dataclass(frozen=True)
class RunConfig:
    """Which run."""

    path: LocalPath = field(metadata={"help": "folder of a run, or a backbone.safetensors", "positional": "RUN"})
    epoch: int | None = option("epoch whose weights to take, of those that train.keep named; none: the last checkpoint", None)

    def __post_init__(self):
        read_unset(self, epoch=0)


@dataclass(frozen=True)
class FilesConfig:
    """Files to use; options that are not set are as in the run."""

    train: LocalPath | None = option(
        "the .beton file that classifiers learn from; another than the run's: transfer, give data.val with it", None
    )
    val: LocalPath | None = option("the .beton file they are judged on", None)
    image: str | None = option("name of the image field", None)
    label: str | None = option("name of the label field, integers; classes are the labels that occur", None)
    workers: int | None = option(
        "threads of the loader; -1: as many as there are cores, 0: none beside the main one; none: as in the run", None
    )

    def __post_init__(self):
        read_unset(self, train="", val="", image="", label="")


def open_run(path: str, files: FilesConfig, epoch: int | None = None) -> "Trained":
    """Restore a run from its folder, or an exported backbone, with the files to judge it on."""
    from ffcv_ssl.evaluate import restore, restore_backbone
    from ffcv_ssl.runs import read_run

    if Path(path).suffix == EXPORTED:
        trained = restore_backbone(path)
    elif Path(path).is_dir():
        name, _ = read_run(path)
        if name not in METHODS:
            raise ConfigError(f"{path}: a run of '{name}', which has no recipe here. Methods: {', '.join(METHODS)}.")
        trained = restore(path, load_recipe(name), epoch)
    else:
        raise ConfigError(f"{path}: neither the folder of a run nor an exported {EXPORTED} file.")
    if bool(files.train) != bool(files.val):
        raise ConfigError("data.train and data.val go together: classifiers learn from the one and are judged on the other.")
    given = {name: value for name, value in vars(files).items() if value is not None}
    trained.configs.data = replace(trained.configs.data, **given)
    return trained
