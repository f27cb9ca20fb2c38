"""Results of a sweep: a row per run, mean and deviation per point, and the Pareto frontier."""

import csv
import io
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ffcv_ssl.recipes.cells import Outcome
from ffcv_ssl.recipes.study import Label, Study
from ffcv_ssl.runs.measurements import write_whole
from ffcv_ssl.system.names import printable

COLUMNS = ("seconds", "images_per_s", "views", "epochs", "device")  # keys of result.json
ACCURACIES = {"knn", "linear", "mlp"}  # a score with one of these words in its name is an accuracy


class Summary(NamedTuple):
    """Mean and sample standard deviation of several runs.

    Parameters
    ----------
    mean
        None without a run.
    deviation
        None with fewer than two runs.
    n
        Number of runs.
    """

    mean: float | None
    deviation: float | None
    n: int


def value_of(result: Mapping[str, Any], key: str) -> float | None:
    """Return a number of a result; None if there is none.

    Parameters
    ----------
    result
        Content of result.json.
    key
        Keys of nested mappings joined by dots, such as `scores.knn`.

    Examples
    --------
    >>> from ffcv_ssl.recipes.report import value_of
    >>> value_of({"scores": {"knn": 0.5}}, "scores.knn")
    0.5
    """
    value: Any = result
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return float(value) if isinstance(value, (int, float)) else None


def is_accuracy(key: str) -> bool:
    """Return whether a key of result.json names an accuracy, which is shown in percent."""
    words = key.partition(".")[2].split("_")
    return key.startswith("scores.") and bool(ACCURACIES & set(words))


def title_of(key: str) -> str:
    """Return the label of a key of result.json.

    Examples
    --------
    >>> from ffcv_ssl.recipes.report import title_of
    >>> title_of("scores.online_linear")
    'online linear, %'
    """
    words = key.rpartition(".")[2].replace("_", " ").replace("knn", "kNN").replace("mlp", "MLP")
    return f"{words}, %" if is_accuracy(key) else words


def values_at(outcomes: Sequence[Outcome], point: Mapping[str, Label], key: str) -> list[float]:
    """Return a number of every finished run of a point, accuracies in percent.

    Parameters
    ----------
    outcomes
        Finished cells.
    point
        Axis → label.
    key
        Key of result.json.
    """
    found = [value_of(outcome.result, key) for outcome in outcomes if outcome.cell.point == point]
    return [100 * value if is_accuracy(key) else value for value in found if value is not None]


def summary(values: Sequence[float]) -> Summary:
    """Return mean and sample standard deviation (denominator n - 1) of values."""
    if not values:
        return Summary(None, None, 0)
    deviation = statistics.stdev(values) if len(values) > 1 else None
    return Summary(statistics.fmean(values), deviation, len(values))


def pareto_frontier(points: Sequence[tuple[float, float]]) -> list[int]:
    """Return the indices of the points that no other point dominates.

    A point dominates another if it is smaller in one value and not larger in the other.

    Parameters
    ----------
    points
        Pairs of values; smaller is better.

    Returns
    -------
    list of int
        Indices in the order of the first value; of equal points, all or none.

    Examples
    --------
    >>> from ffcv_ssl.recipes.report import pareto_frontier
    >>> pareto_frontier([(3, 1), (1, 3), (2, 4)])
    [1, 0]
    """
    kept: list[int] = []
    for index in sorted(range(len(points)), key=lambda index: points[index]):
        last = points[kept[-1]] if kept else None
        if last is None or points[index][1] < last[1] or points[index] == last:
            kept.append(index)
    return kept


def write_csv(study: Study, outcomes: Sequence[Outcome], path: Path) -> None:
    """Write a row per run: labels, seed, every score, `COLUMNS` and the quantities of the study.

    Parameters
    ----------
    study
        The study.
    outcomes
        Finished cells.
    path
        File to write; numbers keep all digits.
    """
    scores = list(dict.fromkeys(name for outcome in outcomes for name in outcome.result["scores"]))
    others = [key for key in study.y if not key.startswith("scores.") and key not in COLUMNS]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*map(printable, study.axes), "seed", *scores, *COLUMNS, *others])
    for outcome in outcomes:
        cell, result = outcome.cell, outcome.result
        labels = [cell.point[axis] for axis in study.axes]
        writer.writerow(
            [
                *(
                    label if isinstance(label, (int, float)) else printable(label)
                    for label in labels
                ),
                cell.seed,
                *(result["scores"].get(name, "") for name in scores),
                *(result.get(name, "") for name in COLUMNS),
                *(value_of(result, key) for key in others),
            ]
        )
    write_whole(path, text.getvalue().encode())


def markdown_table(study: Study, outcomes: Sequence[Outcome]) -> str:
    """Return a Markdown table with a row per point of a study.

    Parameters
    ----------
    study
        The study. Points without a finished run have a row too.
    outcomes
        Finished cells.
    """
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
    note = (
        "Mean ± sample standard deviation over n seeds (denominator n - 1; omitted for one run). "
        f"Devices: {'; '.join(devices)}."
    )
    return "\n".join([*lines, "", note, ""])


def _row(cells: Sequence[str]) -> str:
    """Format a row of a Markdown table."""
    return f"| {' | '.join(printable(cell).replace('|', '/') for cell in cells)} |"


def _text(found: Summary, digits: int) -> str:
    """Format as `81.20 ± 0.31`; a dash without a measurement."""
    if found.mean is None:
        return "-"
    spread = f" ± {found.deviation:.{digits}f}" if found.deviation is not None else ""
    return f"{found.mean:.{digits}f}{spread}"
