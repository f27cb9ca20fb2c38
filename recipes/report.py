"""What a sweep measured: rows of every run, mean and deviation of every point, and the frontier of error and time."""

import csv
import io
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from ffcv_ssl.recipes.study import Cell, Label, Study
from ffcv_ssl.runs.measurements import write_whole
from ffcv_ssl.system.names import printable

COLUMNS = ("seconds", "images_per_s", "views", "epochs", "device")  # of result.json
ACCURACIES = {
    "knn",
    "linear",
    "mlp",
}  # a score with one of these words in its name is a share of samples


@dataclass(frozen=True)
class Outcome:
    """A finished cell and what its result.json holds."""

    cell: Cell
    result: Mapping[str, Any]


class Summary(NamedTuple):
    """Mean and sample standard deviation of `n` runs; none of one run alone, nor a mean of none."""

    mean: float | None
    deviation: float | None
    n: int


def value_of(result: Mapping[str, Any], key: str) -> float | None:
    """The number at `key`, `scores.knn` for one; None where there is none."""
    value: Any = result
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return float(value) if isinstance(value, (int, float)) else None


def is_accuracy(key: str) -> bool:
    """Whether the key names a share of samples, which is shown in percent."""
    return key.startswith("scores.") and bool(ACCURACIES & set(key.partition(".")[2].split("_")))


def title_of(key: str) -> str:
    """The key for a reader: `scores.online_linear` is `online linear, %`."""
    words = key.rpartition(".")[2].replace("_", " ").replace("knn", "kNN").replace("mlp", "MLP")
    return f"{words}, %" if is_accuracy(key) else words


def values_at(outcomes: Sequence[Outcome], point: Mapping[str, Label], key: str) -> list[float]:
    """The values of all seeds of a point; accuracies in percent."""
    found = [value_of(outcome.result, key) for outcome in outcomes if outcome.cell.point == point]
    return [100 * value if is_accuracy(key) else value for value in found if value is not None]


def summary(values: Sequence[float]) -> Summary:
    """Mean and sample standard deviation (n - 1)."""
    if not values:
        return Summary(None, None, 0)
    return Summary(
        statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None, len(values)
    )


def pareto_frontier(points: Sequence[tuple[float, float]]) -> list[int]:
    """Positions of the points than which no other is better in one value and as good in the other; smaller is better.

    Ordered by the first value. Equal points stand or fall together.
    """
    kept: list[int] = []
    for index in sorted(range(len(points)), key=lambda index: points[index]):
        if not kept or points[index][1] < points[kept[-1]][1] or points[index] == points[kept[-1]]:
            kept.append(index)
    return kept


def write_csv(study: Study, outcomes: Sequence[Outcome], path: Path) -> None:
    """Write a row per run: its place, seed, every score, what `COLUMNS` names and what the study draws; floats keep all digits."""
    scores = list(dict.fromkeys(name for outcome in outcomes for name in outcome.result["scores"]))
    others = [key for key in study.y if not key.startswith("scores.") and key not in COLUMNS]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*map(printable, study.axes), "seed", *scores, *COLUMNS, *others])
    for outcome in outcomes:
        place = [
            label
            if isinstance(label := outcome.cell.point[axis], (int, float))
            else printable(label)
            for axis in study.axes
        ]
        measured = [outcome.result["scores"].get(name, "") for name in scores]
        rest = [outcome.result.get(name, "") for name in COLUMNS] + [
            value_of(outcome.result, key) for key in others
        ]
        writer.writerow([*place, outcome.cell.seed, *measured, *rest])
    write_whole(path, text.getvalue().encode())


def markdown_table(study: Study, outcomes: Sequence[Outcome]) -> str:
    """Return a table with a row per point, also of points without a finished run."""
    columns = [*study.axes, "n", *(title_of(key) for key in study.y), "training, s"]
    lines = [f"# {printable(study.title)}", "", _row(columns), _row(["---"] * len(columns))]
    for point in study.points():
        n = sum(outcome.cell.point == point for outcome in outcomes)
        cells = [
            _text(summary(values_at(outcomes, point, key)), 2 if is_accuracy(key) else 4)
            for key in study.y
        ]
        seconds = _text(summary(values_at(outcomes, point, "seconds")), 1)
        lines.append(_row([*map(str, point.values()), str(n), *cells, seconds]))
    devices = sorted({str(outcome.result.get("device")) for outcome in outcomes})
    lines += [
        "",
        f"Mean ± standard deviation over n seeds (n - 1 in the denominator; none of one run). Devices: {'; '.join(devices)}.",
        "",
    ]
    return "\n".join(lines)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(printable(cell).replace('|', '/') for cell in cells)} |"


def _text(found: Summary, digits: int) -> str:
    """`81.20 ± 0.31`; a dash where nothing was measured."""
    if found.mean is None:
        return "-"
    return f"{found.mean:.{digits}f}" + (
        f" ± {found.deviation:.{digits}f}" if found.deviation is not None else ""
    )
