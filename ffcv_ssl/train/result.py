"""What a run returns and leaves in result.json."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from ffcv_ssl.train.checkpoint import Progress
from ffcv_ssl.train.device import describe_device
from ffcv_ssl.train.record import RunRecord


@dataclass(frozen=True)
class Result:
    """The outcome of a training run.

    Attributes
    ----------
    method
        Name of the recipe.
    scores
        What the final evaluation measured; accuracies are shares, 0..1. Empty without a validation file.
    steps, epochs
        Optimizer steps, and passes over the training file they amount to.
    images, views
        Seen in training, with repetition.
    seconds
        Of training; start-up and evaluation excluded.
    images_per_s, views_per_s, data_wait
        Over the whole training; `data_wait` is the share of `seconds` spent waiting for the loader.
    device, precision
        Where and how it was computed.
    folder
        Where rows, checkpoint and curves are.
    """

    method: str
    scores: Mapping[str, float]
    steps: int
    epochs: float
    images: int
    views: int
    seconds: float
    images_per_s: float
    views_per_s: float
    data_wait: float
    device: str
    precision: str
    folder: Path

    def summary(self) -> str:
        """Return a few lines to print at the end."""
        speed = f"{self.images_per_s:.0f} images/s, {self.views_per_s:.0f} views/s, waiting for data {self.data_wait:.0%}"
        lines = [f"{self.method}: {self.epochs:.4g} epochs in {self.seconds:.0f} s on {self.device} ({self.precision}): {speed}"]
        lines += [f"{name:18} {value:.4f}" for name, value in self.scores.items()]
        return "\n".join([*lines, f"written to {self.folder}"])


def finish(
    record: RunRecord,
    progress: Progress,
    scores: Mapping[str, float],
    *,
    device: torch.device,
    precision: str,
    num_views: int,
    steps_per_epoch: int,
) -> Result:
    """Add the last evaluation to the record, write result.json with the configuration and the code's version, and return the result."""
    if "knn" in scores:
        record.last_eval_row(progress.step, progress.step / steps_per_epoch, progress.seconds, {"knn": scores["knn"]})
    seconds = max(progress.seconds, 1e-9)
    result = Result(
        method=record.method,
        scores=dict(scores),
        steps=progress.step,
        epochs=progress.step / steps_per_epoch,
        images=progress.images,
        views=progress.images * num_views,
        seconds=progress.seconds,
        images_per_s=progress.images / seconds,
        views_per_s=progress.images * num_views / seconds,
        data_wait=progress.waited_s / seconds,
        device=describe_device(device),
        precision=precision,
        folder=record.folder,
    )
    record.write_result({**asdict(result), "folder": str(record.folder)})
    return result
