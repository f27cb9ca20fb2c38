"""Scores of the demonstration: baselines, the result and the table."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ffcv_ssl.evaluate.features import Evaluation, raw_pixels
from ffcv_ssl.pipeline.presets import plain
from ffcv_ssl.recipes.demo.files import ROWS, TRAINED, DemoConfig, DemoFiles
from ffcv_ssl.runs.measurements import write_whole
from ffcv_ssl.ssl import knn_accuracy, linear_probe
from ffcv_ssl.train.config import DataConfig, EvalConfig, ModelConfig, TrainConfig
from ffcv_ssl.train.device import prepare_torch
from ffcv_ssl.train.network import build_backbone, build_normalize, frozen

Scores = Mapping[str, float]


def baseline_scores(
    data: DataConfig, evaluation: EvalConfig, model: ModelConfig, train: TrainConfig, size: int
) -> dict[str, Scores]:
    """Evaluate the baselines: raw pixels, and the network with its initial weights.

    Parameters
    ----------
    data, evaluation, model, train
        Options of the run to compare with.
    size
        Side of the whole images in pixels.

    Returns
    -------
    dict
        "raw" and "untrained", each with its accuracies "knn" and "linear", 0 to 1.
    """
    device, precision = prepare_torch(train)
    backbone, normalize = build_backbone(model).to(device), build_normalize(model).to(device)
    encoders = {"raw": raw_pixels, "untrained": lambda images: backbone(normalize(images))}
    scores: dict[str, Scores] = {}
    pipeline = plain(size, ratio=1.0)
    with (
        Evaluation(data, evaluation, pipeline, device, precision) as whole_images,
        frozen(backbone),
    ):
        for name, encoder in encoders.items():
            features = whole_images.features(encoder)
            knn = knn_accuracy(*features, k=evaluation.k, temperature=evaluation.temperature)
            linear = linear_probe(*features, epochs=evaluation.linear_epochs).last
            scores[name] = {"knn": knn, "linear": linear}
    return scores


def demo_result(
    scores: Mapping[str, Scores], seconds: float, files: DemoFiles, config: DemoConfig
) -> dict[str, Any]:
    """Combine the numbers of all rows.

    Parameters
    ----------
    scores
        Key of `ROWS` → accuracies "knn" and "linear", 0 to 1.
    seconds
        Wall time of the demonstration.
    files
        Its files.
    config
        Its options.

    Returns
    -------
    dict
        `knn_ROW` and `linear_ROW` of every row and of "trained", the method with the better kNN
        accuracy; `seconds`, and the circumstances. Serializable as JSON.
    """
    best = max(TRAINED, key=lambda name: scores[name]["knn"])
    rows = {**{name: scores[name] for name in ROWS}, "trained": scores[best]}
    accuracies = {
        f"{measure}_{name}": row[measure]
        for measure in ("knn", "linear")
        for name, row in rows.items()
    }
    return {
        **accuracies,
        "seconds": seconds,
        "better_method": best,
        "chance": 1 / len(files.class_names),
        "images": files.title,
        "train": files.num_train,
        "val": files.num_val,
        "minutes": config.minutes,
        "seed": config.seed,
    }


def demo_table(result: Mapping[str, Any]) -> str:
    """Format the accuracies on the validation images as a table, in percent.

    Parameters
    ----------
    result
        As returned by `demo_result`.
    """
    rows = {
        title: (result[f"knn_{name}"], result[f"linear_{name}"]) for name, title in ROWS.items()
    }
    rows["chance"] = (result["chance"], result["chance"])
    lines = [f"{'accuracy, %':20}{'kNN':>8}{'linear':>8}"]
    lines += [
        f"{title:20}{100 * knn:8.1f}{100 * linear:8.1f}" for title, (knn, linear) in rows.items()
    ]
    return "\n".join(lines)


def write_result(result: Mapping[str, Any], folder: str | Path) -> Path:
    """Write a result to result.json and return its path.

    Parameters
    ----------
    result
        As returned by `demo_result`.
    folder
        Folder of the demonstration.
    """
    path = Path(folder) / "result.json"
    write_whole(path, (json.dumps(result, indent=2) + "\n").encode())
    return path
