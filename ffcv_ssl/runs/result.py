"""Result of a run, as returned and as written to result.json."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from ffcv_ssl.runs.record import RunRecord
from ffcv_ssl.train.classes import Classes
from ffcv_ssl.train.device import describe_device, peak_memory_bytes
from ffcv_ssl.train.progress import Progress


@dataclass(frozen=True)
class Result:
    """Result of a training run.

    Attributes
    ----------
    method
        Name of the recipe.
    scores
        Score name → value of the final evaluation; accuracies are in 0..1. Empty without a
        validation file.
    steps, epochs
        Number of optimizer steps, and the corresponding number of passes over the training file.
    images, views
        Number of images and views used in the training, summed over epochs.
    seconds
        Training time in seconds, without start-up and evaluation.
    evaluation_seconds
        Duration of all evaluations in seconds, including the last.
    seconds_to
        "seconds_to_65" → training time in seconds at the first evaluation with a kNN accuracy of
        65 % or more, and so on. Thresholds that were not reached are absent.
    view_epochs
        `epochs` times the number of views of each image. Compares methods with few and many views.
    images_per_s, views_per_s
        Mean rates over the whole training.
    data_wait
        Fraction of `seconds` spent waiting for the loader.
    peak_memory_bytes
        Peak memory of the GPU or, on a CPU, of the process; of rank 0 with several processes.
    device, precision
        Device and precision of the training.
    folder
        Folder of the run.
    num_classes
        Number of classes that occur in the training file, or None if no labels were used.
    remarks
        Remarks on the files that help to interpret the scores.
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
        """Return a summary of a few lines.

        Returns
        -------
        str
            Text without a final newline.
        """
        rates = f"{self.images_per_s:.0f} images/s, {self.views_per_s:.0f} views/s"
        lines = [
            f"{self.method}: {self.epochs:.4g} epochs in {self.seconds:.0f} s on {self.device} "
            f"({self.precision}): {rates}, waiting for data {self.data_wait:.0%}, "
            f"peak memory {self.peak_memory_bytes / 1e9:.1f} GB"
        ]
        lines += [f"{name:20} {value:.4f}" for name, value in self.scores.items()]
        others = {"view_epochs": self.view_epochs, "evaluation_seconds": self.evaluation_seconds}
        lines += [f"{name:20} {value:.4g}" for name, value in {**others, **self.seconds_to}.items()]
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
    """Finish a run: add the last evaluation to the record, and write result.json.

    Parameters
    ----------
    record
        Record of the run.
    progress
        Progress at the end of the training.
    scores
        Score name → value of the final evaluation.
    device, precision
        Device and precision of the training.
    num_views
        Number of views of each image.
    steps_per_epoch
        Number of steps in an epoch.
    classes
        Classes of the training file, or None if no labels were used.

    Returns
    -------
    Result
        Result of the run.
    """
    if "knn" in scores:
        quick = {
            name: value
            for name, value in scores.items()
            if name in ("knn", "rankme") or name.startswith("online_")
        }
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
        seconds_to={
            f"seconds_to_{percent}": reached_at
            for percent, reached_at in sorted(progress.seconds_to.items())
        },
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
