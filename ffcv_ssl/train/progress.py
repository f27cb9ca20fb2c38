"""How far a run has come."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

THRESHOLDS = (65, 80, 85, 90)  # kNN accuracies, %, whose times are reported


@dataclass
class Progress:
    """How far a run has come; saved with every checkpoint.

    Attributes
    ----------
    step
        Optimizer steps taken.
    images
        Images seen, each counted once per epoch.
    seconds
        Training time, waiting for data included; start-up, evaluation and saving excluded.
    waited_s
        Part of `seconds` spent waiting for data.
    evaluations
        Made of those that are due during the training.
    evaluation_seconds
        Spent in evaluations.
    seconds_to
        kNN accuracy in % → `seconds` when an evaluation first found it.
    """

    step: int = 0
    images: int = 0
    seconds: float = 0.0
    waited_s: float = 0.0
    evaluations: int = 0
    evaluation_seconds: float = 0.0
    seconds_to: dict[int, float] = field(default_factory=dict)


def note(progress: Progress, scores: Mapping[str, float], took_s: float) -> None:
    """Add an evaluation's seconds to the progress, and the training time at which its kNN accuracy first reached a threshold."""
    progress.evaluation_seconds += took_s
    for percent in THRESHOLDS:
        if scores.get("knn", 0.0) >= percent / 100:
            progress.seconds_to.setdefault(percent, progress.seconds)


def catch_up(progress: Progress, eval_rows: Sequence[Mapping[str, float]]) -> None:
    """Note the last evaluation of a finished run, which came after its checkpoint; `eval_rows` are those up to that step."""
    for row in eval_rows[-1:]:
        missing_s = row.get("evaluation_seconds", 0.0) - progress.evaluation_seconds
        if missing_s > 0:
            note(progress, row, missing_s)
