"""Options of the commands that work on finished runs, and the function that restores a run."""

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
    """The run to work on."""

    path: LocalPath = field(
        metadata={
            "help": "Folder of the run, or an exported backbone.safetensors",
            "positional": "RUN",
        }
    )
    epoch: int | None = option(
        "Epoch whose weights to use, one of those that `train.keep` saved; none uses the last "
        "checkpoint",
        None,
    )

    def __post_init__(self) -> None:
        read_unset(self, epoch=0)


@dataclass(frozen=True)
class FilesConfig:
    """Files to use; an option that is not set has the value of the run."""

    train: LocalPath | None = option(
        "The .beton file to train classifiers on; to evaluate transfer, give another file than the "
        "run's, together with `data.val`",
        None,
    )
    val: LocalPath | None = option("The .beton file to evaluate classifiers on", None)
    image: str | None = option("Name of the image field", None)
    label: str | None = option(
        "Name of the label field, which holds integers; every label that occurs is a class", None
    )
    workers: int | None = option(
        "Number of loader threads: -1 uses every core available to the process, 0 loads in the "
        "main thread, none uses the number of the run",
        None,
    )

    def __post_init__(self) -> None:
        read_unset(self, train="", val="", image="", label="")


def open_run(path: str, files: FilesConfig, epoch: int | None = None) -> "Trained":
    """Restore a trained network from the folder of a run or from an exported backbone.

    Parameters
    ----------
    path
        Folder of a run, or a `.safetensors` file.
    files
        Files to evaluate the network on. Values that are None are those of the run.
    epoch
        Epoch whose weights to use, if `path` is a folder. None uses the last checkpoint.

    Returns
    -------
    Trained
        Network, configuration and files.

    Raises
    ------
    ConfigError
        If `path` is neither, the method of the run is unknown, or only one of `files.train` and
        `files.val` is given.
    CheckpointError
        If there is no checkpoint of that epoch.
    """
    from ffcv_ssl.evaluate import restore, restore_backbone
    from ffcv_ssl.runs import read_run

    if Path(path).suffix == EXPORTED:
        trained = restore_backbone(path)
    elif Path(path).is_dir():
        name, _ = read_run(path)
        if name not in METHODS:
            known = ", ".join(METHODS)
            raise ConfigError(f"{path}: there is no recipe for method '{name}'. Methods: {known}.")
        trained = restore(path, load_recipe(name), epoch)
    else:
        raise ConfigError(f"{path}: neither the folder of a run nor an exported {EXPORTED} file.")
    if bool(files.train) != bool(files.val):
        raise ConfigError(
            "data.train and data.val go together: classifiers are trained on the first and "
            "evaluated on the second."
        )
    given = {name: value for name, value in vars(files).items() if value is not None}
    trained.configs.data = replace(trained.configs.data, **given)
    return trained
