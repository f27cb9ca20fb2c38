"""Progress of a training run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

THRESHOLDS = (65, 80, 85, 90)  # kNN accuracies in percent; the time to reach each is reported


@dataclass
class Progress:
    """Progress of a training run, saved with every checkpoint.

    Attributes
    ----------
    step
        Number of optimizer steps taken.
    images
        Number of images used, summed over epochs and processes.
    seconds
        Training time in seconds. It includes waiting for data and excludes start-up, evaluation
        and saving.
    waited_s
        Part of `seconds` spent waiting for data.
    evaluations
        Number of evaluations made during the training.
    evaluation_seconds
        Time spent in evaluations, in seconds.
    seconds_to
        kNN accuracy in percent → `seconds` at the first evaluation that reached it.
    """

    step: int = 0
    images: int = 0
    seconds: float = 0.0
    waited_s: float = 0.0
    evaluations: int = 0
    evaluation_seconds: float = 0.0
    seconds_to: dict[int, float] = field(default_factory=dict)


def record_evaluation(progress: Progress, scores: Mapping[str, float], elapsed_s: float) -> None:
    """Add an evaluation to the progress: its duration and the accuracy thresholds it reached.

    Parameters
    ----------
    progress
        Progress to update.
    scores
        Score name → value. Only "knn", the kNN accuracy in 0..1, is used.
    elapsed_s
        Duration of the evaluation in seconds.
    """
    progress.evaluation_seconds += elapsed_s
    for percent in THRESHOLDS:
        if scores.get("knn", 0.0) >= percent / 100:
            progress.seconds_to.setdefault(percent, progress.seconds)


def restore_last_evaluation(progress: Progress, eval_rows: Sequence[Mapping[str, float]]) -> None:
    """Add the last evaluation of a finished run, which was made after its checkpoint was saved.

    Parameters
    ----------
    progress
        Progress to update.
    eval_rows
        Rows of eval.csv up to the step of the checkpoint.
    """
    for row in eval_rows[-1:]:
        missing_s = row.get("evaluation_seconds", 0.0) - progress.evaluation_seconds
        if missing_s > 0:
            record_evaluation(progress, row, missing_s)
