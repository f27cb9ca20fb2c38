"""What a run returns and leaves in result.json."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from ffcv_ssl.runs.record import RunRecord
from ffcv_ssl.train.checkpoint import Progress
from ffcv_ssl.train.classes import Classes
from ffcv_ssl.train.device import describe_device, peak_memory_bytes


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
    evaluation_seconds
        Of all evaluations, the last included.
    seconds_to
        "seconds_to_65" → seconds of training at the first evaluation whose kNN accuracy was 65 % or more, and so on; those never reached
        are absent.
    view_epochs
        `epochs` times the views of each image: what methods with few and with many views have in common.
    images_per_s, views_per_s, data_wait
        Over the whole training; `data_wait` is the share of `seconds` spent waiting for the loader.
    peak_memory_bytes
        Of the GPU or, on a CPU, of the process; of the first of several.
    device, precision
        Where and how it was computed.
    folder
        Where rows, checkpoint and curves are.
    num_classes
        Classes that occur in the training file; None where no labels were used.
    remarks
        What a reader of the scores should know about the files.
    """

    method: str
    scores: Mapping[str, float]
    steps: int
    epochs: float
    images: int
    views: int
    seconds: float
    evaluation_seconds: float
    seconds_to: Mapping[str, float]
    view_epochs: float
    images_per_s: float
    views_per_s: float
    data_wait: float
    peak_memory_bytes: int
    device: str
    precision: str
    folder: Path
    num_classes: int | None = None
    remarks: tuple[str, ...] = ()

    def summary(self) -> str:
        """Return a few lines to print at the end."""
        speed = f"{self.images_per_s:.0f} images/s, {self.views_per_s:.0f} views/s, waiting for data {self.data_wait:.0%}"
        lines = [f"{self.method}: {self.epochs:.4g} epochs in {self.seconds:.0f} s on {self.device} ({self.precision}): {speed}"]
        lines[0] += f", at most {self.peak_memory_bytes / 1e9:.1f} GB"
        lines += [f"{name:20} {value:.4f}" for name, value in self.scores.items()]
        others = {"view_epochs": self.view_epochs, "evaluation_seconds": self.evaluation_seconds, **self.seconds_to}
        lines += [f"{name:20} {value:.4g}" for name, value in others.items()]
        lines += [f"note: {remark}" for remark in self.remarks]
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
    classes: Classes | None = None,
) -> Result:
    """Add the last evaluation to the record, write result.json with the configuration and the code's version, and return the result."""
    if "knn" in scores:
        quick = {name: value for name, value in scores.items() if name in ("knn", "rankme") or name.startswith("online_")}
        record.last_eval_row(progress, steps_per_epoch, quick)
    seconds = max(progress.seconds, 1e-9)
    result = Result(
        method=record.method,
        scores=dict(scores),
        steps=progress.step,
        epochs=progress.step / steps_per_epoch,
        images=progress.images,
        views=progress.images * num_views,
        seconds=progress.seconds,
        evaluation_seconds=progress.evaluation_seconds,
        seconds_to={f"seconds_to_{percent}": seconds for percent, seconds in sorted(progress.seconds_to.items())},
        view_epochs=progress.step / steps_per_epoch * num_views,
        images_per_s=progress.images / seconds,
        views_per_s=progress.images * num_views / seconds,
        data_wait=progress.waited_s / seconds,
        peak_memory_bytes=peak_memory_bytes(device),
        device=describe_device(device),
        precision=precision,
        folder=record.folder,
        num_classes=None if classes is None else len(classes),
        remarks=() if classes is None else classes.remarks,
    )
    content = asdict(result)
    record.write_result({**content.pop("seconds_to"), **content, "folder": str(record.folder)})
    return result
