"""Options of the demonstration, and the files that it writes."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ffcv_ssl.errors import SourceError
from ffcv_ssl.fields import RGBImageField
from ffcv_ssl.recipes.demo.shapes import ShapesDataset
from ffcv_ssl.sources import SourceConfig, open_source
from ffcv_ssl.system.paths import LocalPath
from ffcv_ssl.train.config import option, require
from ffcv_ssl.writer import DatasetWriter

HELD_OUT = 6  # every sixth image is for validation
LARGEST_RAW_SIDE = 64  # pixels; larger images are stored as JPEG
ROWS = {  # of the table, with their titles
    "raw": "raw pixels",
    "untrained": "untrained network",
    "simclr": "SimCLR",
    "emp_ssl": "EMP-SSL",
}
TRAINED = ("simclr", "emp_ssl")


@dataclass(frozen=True)
class DemoConfig:
    """The images, the training time and the output."""

    data: LocalPath | None = option(
        "Folder of images with one folder per class; none draws images", None
    )
    size: int = option(
        "Side of the views in pixels, >= 16; stored images have at most this side", 32
    )
    samples: int = option(
        "Number of images to draw, >= 60; a sixth of them is for validation", 12_000
    )
    minutes: float = option(
        "Training time of each method in minutes, > 0; both train at the same time, each on half "
        "of the cores",
        3.5,
    )
    seed: int = option("Seed for drawing, split and training, 0 to 2**61 - 1", 0)
    workers: int = option(
        "Number of processes that write and maximum number of loader threads: -1 uses one per "
        "core, 0 writes in the main process",
        -1,
    )
    out: LocalPath = option("Folder for files, runs, result and figure", "demo")

    def __post_init__(self) -> None:
        require(self.size >= 16, f"size is at least 16, got {self.size}.")
        require(self.samples >= 60, f"samples is at least 60, got {self.samples}.")
        require(self.minutes > 0, f"minutes must be positive, got {self.minutes}.")
        require(0 <= self.seed < 1 << 61, f"seed is 0 to 2**61 - 1, got {self.seed}.")
        require(self.workers >= -1, f"workers is at least -1, got {self.workers}.")


@dataclass(frozen=True)
class DemoFiles:
    """The files of a demonstration.

    Parameters
    ----------
    train, val
        Paths of the .beton files.
    num_train, num_val
        Number of samples in each.
    class_names
        Names in the order of the labels.
    title
        Description of the images.
    notes
        Sentences about files that were ignored in the folder.
    """

    train: Path
    val: Path
    num_train: int
    num_val: int
    class_names: list[str]
    title: str
    notes: tuple[str, ...] = ()


def write_files(config: DemoConfig) -> DemoFiles:
    """Write a training and a validation file from drawn images or from a folder.

    Parameters
    ----------
    config
        Options of the demonstration.

    Returns
    -------
    DemoFiles
        The files, in the folder `config.out`.

    Raises
    ------
    SourceError
        If the folder has fewer than two classes, or too few images for a validation file.
    """
    folder = Path(config.out)
    folder.mkdir(parents=True, exist_ok=True)
    notes: tuple[str, ...] = ()
    if config.data is None:
        num_val = config.samples // HELD_OUT
        num_train = config.samples - num_val
        parts: list[tuple[Any, NDArray[np.int64] | None]] = [
            (ShapesDataset(num_train, 2 * config.seed, config.size), None),
            (ShapesDataset(num_val, 2 * config.seed + 1, config.size), None),
        ]
        title = f"drawn images, {config.size} x {config.size}"
    else:
        source = open_source(SourceConfig(source="imagefolder", path=config.data))
        order = np.random.default_rng(config.seed).permutation(len(source))
        num_val = len(source) // HELD_OUT
        if len(source.class_names or []) < 2 or num_val == 0:
            raise SourceError(
                f"{config.data}: the demonstration needs two classes and {HELD_OUT} images, found "
                f"{len(source)} images."
            )
        parts = [(source, np.sort(order[num_val:])), (source, np.sort(order[:num_val]))]
        title, notes = f"images of {config.data}, at most {config.size} pixels", source.notes
    train, val = folder / "train.beton", folder / "val.beton"
    num_train, num_val = (
        _write(path, *part, config) for path, part in zip((train, val), parts, strict=True)
    )
    return DemoFiles(train, val, num_train, num_val, list(parts[0][0].class_names), title, notes)


def _write(path: Path, dataset: Any, indices: NDArray[np.int64] | None, config: DemoConfig) -> int:
    """Write one file and return its number of samples."""
    write_mode = "raw" if config.size <= LARGEST_RAW_SIDE else "jpg"
    image = RGBImageField(write_mode, max_resolution=config.size)
    metadata = {"class_names": dataset.class_names, "source": dataset.describe()}
    writer = DatasetWriter(
        path,
        dataset.fields(image),
        num_workers=config.workers,
        metadata=metadata,
        progress=False,
    )
    return writer.from_indexed_dataset(dataset, indices).num_samples
