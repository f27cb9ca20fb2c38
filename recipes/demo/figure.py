"""Figure of the demonstration: augmented views, loss curves and accuracy curves."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ffcv_ssl.preview import PreviewedSample, preview_samples
from ffcv_ssl.recipes.demo.files import ROWS, TRAINED
from ffcv_ssl.runs.record import read_rows
from ffcv_ssl.system.names import caption

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NUM_SAMPLES = 5
MOSAIC_COLUMNS = 5
BOX = ("crop.top", "crop.left", "crop.height", "crop.width")


def draw_demo(
    path: str | Path,
    train_path: str | Path,
    pipelines: Mapping[str, Any],
    runs: Mapping[str, Path],
    result: Mapping[str, Any],
    seed: int = 0,
) -> None:
    """Draw images next to their views, and the learning curves of both methods, to a PNG.

    Parameters
    ----------
    path
        File to write.
    train_path
        The .beton file with the samples to draw.
    pipelines
        "simclr" and "emp_ssl" → view pipeline.
    runs
        "simclr" and "emp_ssl" → folder of the run, with train.csv and eval.csv.
    result
        As returned by `demo_result`.
    seed
        Seed that selects the samples and draws the views, >= 0.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 7), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    pictures, curves = figure.subfigures(1, 2, squeeze=False, width_ratios=(5, 7))[0]
    samples = {
        name: preview_samples(train_path, pipelines[name], NUM_SAMPLES, seed) for name in TRAINED
    }
    num_rows = len(samples["simclr"])
    axes = pictures.subplots(num_rows, 4, squeeze=False, width_ratios=(1, 1, 1, 1.25))
    for row, contrasted, patched in zip(axes, samples["simclr"], samples["emp_ssl"], strict=True):
        _draw_sample(row, contrasted, patched)
    for ax, title in zip(
        axes[0],
        (
            "image",
            "SimCLR, view 1",
            "SimCLR, view 2",
            f"EMP-SSL, {len(samples['emp_ssl'][0].views)} patches",
        ),
        strict=True,
    ):
        ax.set_title(title, fontsize=8)

    top, bottom = curves.subfigures(2, 1, squeeze=False)[:, 0]
    for ax, name in zip(top.subplots(1, 2), TRAINED, strict=True):
        rows = read_rows(runs[name] / "train.csv")
        ax.plot(
            [row["seconds"] for row in rows],
            [row["loss"] for row in rows],
            linewidth=1,
            color="C0" if name == "simclr" else "C1",
        )
        ax.set(title=f"loss of {ROWS[name]}", xlabel="seconds of training")
    _draw_accuracy(bottom.subplots(1, 1), runs, result)
    figure.savefig(path)


def mosaic(
    images: list[NDArray[np.uint8]], columns: int = MOSAIC_COLUMNS, gap: int = 1
) -> NDArray[np.uint8]:
    """Arrange images in rows on a white background.

    Parameters
    ----------
    images
        (H, W, 3) uint8 images of one size, at least one.
    columns
        Number of images per row, >= 1.
    gap
        Distance between images in pixels, >= 0.

    Returns
    -------
    ndarray
        (num_rows * (H + gap) - gap, columns * (W + gap) - gap, 3) uint8 image.
    """
    height, width = images[0].shape[:2]
    num_rows = -(-len(images) // columns)
    out = np.full(
        (num_rows * (height + gap) - gap, columns * (width + gap) - gap, 3), 255, np.uint8
    )
    for i, image in enumerate(images):
        top, left = i // columns * (height + gap), i % columns * (width + gap)
        out[top : top + height, left : left + width] = image
    return out


def _draw_sample(axes: Any, contrasted: PreviewedSample, patched: PreviewedSample) -> None:
    """Draw an image with the crop boxes of two SimCLR views, these views, and EMP-SSL patches."""
    from matplotlib.patches import Rectangle

    for ax, image in zip(
        axes, (contrasted.original, *contrasted.views[:2], mosaic(patched.views)), strict=True
    ):
        ax.imshow(image, interpolation="nearest")
        ax.set(xticks=[], yticks=[])
    axes[0].set_ylabel(caption(contrasted.label or ""), fontsize=7)
    for view, params in enumerate(contrasted.params[:2]):
        top, left, height, width = (params[name] for name in BOX)
        box = Rectangle(
            (left - 0.5, top - 0.5),
            width,
            height,
            fill=False,
            edgecolor=f"C{view}",
            linewidth=1.5,
            clip_on=False,
        )
        axes[0].add_patch(box)
        for side in axes[1 + view].spines.values():
            side.set(color=f"C{view}", linewidth=2)


def _draw_accuracy(ax: Axes, runs: Mapping[str, Path], result: Mapping[str, Any]) -> None:
    """Draw the kNN accuracy of both methods over training time, and the baselines."""
    for name in TRAINED:
        points = [(row["seconds"], 100 * row["knn"]) for row in read_rows(runs[name] / "eval.csv")]
        last = max(row["seconds"] for row in read_rows(runs[name] / "train.csv"))
        ax.plot(
            *zip(*points, (last, 100 * result[f"knn_{name}"]), strict=True),
            marker="o",
            markersize=3,
            label=ROWS[name],
        )
    for name, style in (("raw", ":"), ("untrained", "--")):
        ax.axhline(
            100 * result[f"knn_{name}"], color="0.4", linestyle=style, linewidth=1, label=ROWS[name]
        )
    ax.set(
        title="kNN accuracy on validation images, %", xlabel="seconds of training", ylim=(0, 100)
    )
    ax.legend()
