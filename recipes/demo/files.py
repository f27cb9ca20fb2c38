"""What the demonstration does besides training: its files, the numbers to beat, the table and the result."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ffcv_ssl.errors import SourceError
from ffcv_ssl.evaluate.features import Evaluation, raw_pixels
from ffcv_ssl.fields import RGBImageField
from ffcv_ssl.pipeline.presets import plain
from ffcv_ssl.recipes.demo.shapes import ShapesDataset
from ffcv_ssl.runs.measurements import write_whole
from ffcv_ssl.sources import SourceConfig, open_source
from ffcv_ssl.ssl import knn_accuracy, linear_probe
from ffcv_ssl.system.paths import LocalPath
from ffcv_ssl.train.config import DataConfig, EvalConfig, ModelConfig, TrainConfig, option, require
from ffcv_ssl.train.device import prepare_torch
from ffcv_ssl.train.network import build_backbone, build_normalize, frozen
from ffcv_ssl.writer import DatasetWriter

HELD_OUT = 6  # every sixth image is for validation
LARGEST_RAW_SIDE = 64  # larger images are stored as JPEG
ROWS = {
    "raw": "raw pixels",
    "untrained": "untrained network",
    "simclr": "SimCLR",
    "emp_ssl": "EMP-SSL",
}
TRAINED = ("simclr", "emp_ssl")

Scores = Mapping[str, float]


@dataclass(frozen=True)
class DemoConfig:
    """What is shown, and for how long."""

    data: LocalPath | None = option(
        "folder of images, a subfolder per class; none: a set is drawn", None
    )
    size: int = option(
        "side of the views in pixels, >= 16; images are stored with at most this side", 32
    )
    samples: int = option("images to draw, >= 60; a sixth of them is held out", 12_000)
    minutes: float = option(
        "training time of each method, > 0; both train at once, each on its share of the cores", 3.5
    )
    seed: int = option("of drawing, split and training, >= 0", 0)
    workers: int = option(
        "processes that write, and at most so many threads that load; -1: one per core, 0: none beside the main one",
        -1,
    )
    out: LocalPath = option("folder of files, runs, result and picture", "demo")

    def __post_init__(self):
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
        Their samples.
    class_names
        By label.
    title
        What they show, in words.
    notes
        What was passed over in the folder, a line each.
    """

    train: Path
    val: Path
    num_train: int
    num_val: int
    class_names: list[str]
    title: str
    notes: tuple[str, ...] = ()


def write_files(config: DemoConfig) -> DemoFiles:
    """Draw the images, or open the folder, and write training and validation file.

    Raises
    ------
    SourceError
        If the folder holds fewer than two classes, or so few images that none is left to validate on.
    """
    folder = Path(config.out)
    folder.mkdir(parents=True, exist_ok=True)
    notes: tuple[str, ...] = ()
    if config.data is None:
        num_val = config.samples // HELD_OUT
        parts: list[tuple[Any, Any]] = [
            (ShapesDataset(config.samples - num_val, 2 * config.seed, config.size), None),
            (ShapesDataset(num_val, 2 * config.seed + 1, config.size), None),
        ]
        title = f"drawn images, {config.size} x {config.size}"
    else:
        source = open_source(SourceConfig(source="imagefolder", path=config.data))
        order = np.random.default_rng(config.seed).permutation(len(source))
        num_val = len(source) // HELD_OUT
        if len(source.class_names or []) < 2 or num_val == 0:
            raise SourceError(
                f"{config.data}: the demonstration needs two classes and {HELD_OUT} images, found {len(source)} images."
            )
        parts = [(source, np.sort(order[num_val:])), (source, np.sort(order[:num_val]))]
        title, notes = f"images of {config.data}, at most {config.size} pixels", source.notes
    train, val = folder / "train.beton", folder / "val.beton"
    num_train, num_val = (
        _write(path, *part, config) for path, part in zip((train, val), parts, strict=True)
    )
    return DemoFiles(train, val, num_train, num_val, list(parts[0][0].class_names), title, notes)


def _write(path: Path, dataset: Any, indices: np.ndarray | None, config: DemoConfig) -> int:
    """Write one file; return its number of samples."""
    image = RGBImageField(
        "raw" if config.size <= LARGEST_RAW_SIDE else "jpg", max_resolution=config.size
    )
    metadata = {"class_names": dataset.class_names, "source": dataset.describe()}
    writer = DatasetWriter(
        path, dataset.fields(image), num_workers=config.workers, metadata=metadata, progress=False
    )
    return writer.from_indexed_dataset(dataset, indices).num_samples


def baseline_scores(
    data: DataConfig, evaluation: EvalConfig, model: ModelConfig, train: TrainConfig, size: int
) -> dict[str, Scores]:
    """Score what training has to beat: the raw pixels, and the network with the weights that the seed draws.

    Parameters
    ----------
    data, evaluation, model, train
        As in the run to compare with.
    size
        Side of the whole images in pixels.

    Returns
    -------
    dict
        "raw" and "untrained", each with its "knn" and "linear" accuracy, 0..1.
    """
    device, precision = prepare_torch(train)
    backbone, normalize = build_backbone(model).to(device), build_normalize(model).to(device)
    encoders = {"raw": raw_pixels, "untrained": lambda images: backbone(normalize(images))}
    scores: dict[str, Scores] = {}
    with (
        Evaluation(data, evaluation, plain(size, ratio=1.0), device, precision) as judge,
        frozen(backbone),
    ):
        for name, encoder in encoders.items():
            features = judge.features(encoder)
            knn = knn_accuracy(*features, k=evaluation.k, temperature=evaluation.temperature)
            scores[name] = {
                "knn": knn,
                "linear": linear_probe(*features, epochs=evaluation.linear_epochs).last,
            }
    return scores


def demo_result(
    scores: Mapping[str, Scores], seconds: float, files: DemoFiles, config: DemoConfig
) -> dict[str, Any]:
    """Put the numbers of all rows together, fit for JSON.

    Parameters
    ----------
    scores
        Row ("raw", "untrained", "simclr", "emp_ssl") → its "knn" and "linear" accuracy, 0..1.
    seconds
        Wall time of the whole demonstration.
    files, config
        What it was about.

    Returns
    -------
    dict
        `knn_…` and `linear_…` of every row and of "trained", the method with the better kNN; `seconds` and the circumstances.
    """
    best = max(TRAINED, key=lambda name: scores[name]["knn"])
    rows = {**{name: scores[name] for name in ROWS}, "trained": scores[best]}
    result: dict[str, Any] = {
        f"{measure}_{name}": row[measure]
        for measure in ("knn", "linear")
        for name, row in rows.items()
    }
    result |= {"seconds": seconds, "better_method": best, "chance": 1 / len(files.class_names)}
    return result | {
        "images": files.title,
        "train": files.num_train,
        "val": files.num_val,
        "minutes": config.minutes,
        "seed": config.seed,
    }


def demo_table(result: Mapping[str, Any]) -> str:
    """The one table: accuracies on the validation images, in percent."""
    lines = [f"{'accuracy, %':20}{'kNN':>8}{'linear':>8}"]
    lines += [
        f"{title:20}{100 * result[f'knn_{name}']:8.1f}{100 * result[f'linear_{name}']:8.1f}"
        for name, title in ROWS.items()
    ]
    lines.append(f"{'chance':20}{100 * result['chance']:8.1f}{100 * result['chance']:8.1f}")
    return "\n".join(lines)


def write_result(result: Mapping[str, Any], folder: str | Path) -> Path:
    """Write result.json into the folder of the demonstration."""
    path = Path(folder) / "result.json"
    write_whole(path, (json.dumps(result, indent=2) + "\n").encode())
    return path
