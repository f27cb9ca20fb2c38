"""Pictures of finished runs.

Command    python recipes/figures.py convergence RUN RUN ... --out=convergence.png [--score=knn]
           A RUN is a folder that a training left, or NAME=FOLDER. Accuracy over epochs and over minutes of training, side by side.
           The picture of a study is drawn by `sweep.py`.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ffcv_ssl.cli.status import exit_status
from ffcv_ssl.errors import ConfigError
from ffcv_ssl.recipes.report import (
    Outcome,
    is_accuracy,
    pareto_frontier,
    summary,
    title_of,
    values_at,
)
from ffcv_ssl.recipes.study import Label, Study
from ffcv_ssl.runs.record import read_rows
from ffcv_ssl.system.names import caption
from ffcv_ssl.system.paths import expanded_path

DPI = 140
MARKERS = "osD^vP*X"
DECADE = 10  # training times that differ by more stand on a log scale
MAX_TICKS = 12  # values of an axis that are each named


def draw_study(study: Study, outcomes: Sequence[Outcome], path: Path) -> None:
    """Draw what a sweep measured to a PNG.

    Numbers on the x axis give lines, shaded by the standard deviation over seeds; names give points with error bars, read downwards.
    Axes that are neither `x` nor `lines` give one panel for each combination of their places.

    Parameters
    ----------
    study
        Says what is drawn over what.
    outcomes
        The finished runs, at least one; points without one are left out. How many seeds a point has stands in the title.
    path
        The file to write.
    """
    others = [axis for axis in study.axes if axis not in (study.x, study.lines)]
    panels = list({tuple(point[axis] for axis in others): None for point in study.points()})
    num_panels = len(panels) + study.frontier
    is_numeric = study.is_numeric(study.x)
    height = 4.0 if is_numeric else max(2.4, 1.2 + 0.42 * len(study.axes[study.x]))
    figure = _figure(max(6.0, 4.4 * num_panels), max(height, 4.0) if study.frontier else height)
    axes = figure.subplots(1, num_panels, squeeze=False)[0]
    for ax, places in zip(axes, panels, strict=False):
        if ax is not axes[0]:
            ax.sharex(axes[0]) if not is_numeric else ax.sharey(axes[0])
        _draw_panel(
            ax, study, outcomes, dict(zip(others, places, strict=True)), is_first=ax is axes[0]
        )
    if study.frontier:
        _draw_frontier(axes[-1], study, outcomes)
    counts = {
        sum(outcome.cell.point == point for outcome in outcomes) for point in study.points()
    } - {0}
    figure.suptitle(
        f"{caption(study.title)} (n = {' to '.join(map(str, sorted({min(counts), max(counts)})))})",
        fontsize=11,
    )
    figure.savefig(path)


def draw_convergence(runs: Mapping[str, Path], path: Path, score: str = "knn") -> None:
    """Draw a score of several runs over epochs and over minutes of training to a PNG.

    Parameters
    ----------
    runs
        Name → folder of a run, with eval.csv.
    path
        The file to write.
    score
        A column of eval.csv.

    Raises
    ------
    ConfigError
        If a run has no such column.
    """
    key = f"scores.{score}"
    scale = 100 if is_accuracy(key) else 1
    figure = _figure(10.0, 4.0)
    by_epoch, by_minute = figure.subplots(1, 2, sharey=True)
    for number, (name, folder) in enumerate(runs.items()):
        rows = read_rows(folder / "eval.csv")
        if not rows or score not in rows[0]:
            found = (
                f"It has {', '.join(rows[0])}."
                if rows
                else "Evaluations are made where data.val and eval.times are given."
            )
            raise ConfigError(f"{folder}: no '{score}' in eval.csv. {found}")
        values = [scale * row[score] for row in rows]
        style = {
            "color": f"C{number}",
            "marker": MARKERS[number % len(MARKERS)],
            "markersize": 4,
            "linewidth": 1.5,
        }
        by_epoch.plot([row["epoch"] for row in rows], values, label=caption(name), **style)
        by_minute.plot([row["seconds"] / 60 for row in rows], values, **style)
    by_epoch.set(xlabel="epochs", ylabel=title_of(key))
    by_minute.set(xlabel="minutes of training")
    by_epoch.legend(fontsize=8)
    for ax in (by_epoch, by_minute):
        ax.grid(alpha=0.3)
        ax.set_xlim(left=0)
    figure.savefig(path)


def _figure(width: float, height: float) -> Any:
    """An empty figure in inches; the object interface with Agg: no global state, no display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _draw_panel(
    ax: Any, study: Study, outcomes: Sequence[Outcome], fixed: Mapping[str, Label], is_first: bool
) -> None:
    """One panel: a line (or a row of points) for each place of `lines` and each `y`; the first has their legend."""
    lines = [
        (label, key)
        for label in (study.axes[study.lines] if study.lines else [None])
        for key in study.y
    ]
    is_numeric = study.is_numeric(study.x)
    places = sorted(study.axes[study.x]) if is_numeric else list(study.axes[study.x])
    for number, (label, key) in enumerate(lines):
        where = {**fixed, **({study.lines: label} if study.lines else {})}
        found = [summary(values_at(outcomes, {**where, study.x: place}, key)) for place in places]
        shown = [
            (i, item.mean, item.deviation) for i, item in enumerate(found) if item.mean is not None
        ]
        style = {"color": f"C{number}", "marker": MARKERS[number % len(MARKERS)], "markersize": 5}
        style["label"] = ", ".join(
            [
                *([_name(study.lines, label)] if study.lines else []),
                *([title_of(key)] if len(study.y) > 1 else []),
            ]
        )
        if is_numeric:
            xs, means = [places[i] for i, _, _ in shown], [mean for _, mean, _ in shown]
            ax.plot(xs, means, linewidth=1.5, **style)
            spread = [deviation or 0.0 for _, _, deviation in shown]
            low, high = (
                [mean + sign * s for mean, s in zip(means, spread, strict=True)] for sign in (-1, 1)
            )
            ax.fill_between(xs, low, high, color=style["color"], alpha=0.2, linewidth=0)
        else:
            shift = 0.6 * ((number + 0.5) / len(lines) - 0.5)
            means, spread = (
                [mean for _, mean, _ in shown],
                [deviation or 0.0 for _, _, deviation in shown],
            )
            ax.errorbar(
                means,
                [i + shift for i, _, _ in shown],
                xerr=spread,
                linestyle="none",
                capsize=3,
                **style,
            )
    quantity = (
        title_of(study.y[0])
        if len(study.y) == 1
        else "%"
        if all(map(is_accuracy, study.y))
        else "value"
    )
    if is_numeric:
        _number_axis(ax, places, study.log_x)
        ax.set(xlabel=_words(study.x), ylabel=quantity if is_first else "")
    else:
        ax.set_yticks(range(len(places)), [caption(str(place)) for place in places])
        ax.set_ylim(len(places) - 0.5, -0.5)  # read downwards
        ax.set_xlabel(quantity)
    ax.grid(alpha=0.3)
    if fixed:
        ax.set_title(", ".join(_name(axis, label) for axis, label in fixed.items()), fontsize=9)
    if len(lines) > 1 and is_first:
        ax.legend(fontsize=8)


def _draw_frontier(ax: Any, study: Study, outcomes: Sequence[Outcome]) -> None:
    """Error of every point over its training time, and the points that no other beats in both."""
    from matplotlib.ticker import LogLocator, NullLocator

    key = study.y[0]
    whole = 100.0 if is_accuracy(key) else 1.0
    spots = []
    for point in study.points():
        score, seconds = (
            summary(values_at(outcomes, point, name)).mean for name in (key, "seconds")
        )
        if score is not None and seconds is not None:
            spots.append((point, (seconds / 60, whole - score)))
    kept = pareto_frontier([spot for _, spot in spots])
    lines = list(study.axes[study.lines]) if study.lines else [None]
    for number, label in enumerate(lines):
        own = [spot for point, spot in spots if not study.lines or point[study.lines] == label]
        marker = MARKERS[number % len(MARKERS)]
        ax.plot(
            *zip(*own, strict=True),
            linestyle="none",
            marker=marker,
            markersize=6,
            color=f"C{number}",
        ) if own else None
    if kept:
        ax.plot(
            *zip(*(spots[i][1] for i in kept), strict=True),
            drawstyle="steps-post",
            color="0.3",
            linewidth=1,
            zorder=0,
            label="frontier",
        )
        ax.legend(fontsize=8)
    for i in kept:
        rest = [_name(axis, label) for axis, label in spots[i][0].items() if axis != study.lines]
        ax.annotate(
            ", ".join(rest), spots[i][1], textcoords="offset points", xytext=(5, 5), fontsize=7
        )
    devices = {str(outcome.result.get("device")) for outcome in outcomes}
    minutes = f"minutes of training{'' if len(devices) == 1 else ', on different devices'}"
    ax.set(xlabel=minutes, ylabel=f"error: {whole:g} - {title_of(key)}")
    ax.margins(x=0.3, y=0.1)
    times = [time for _, (time, _) in spots]
    if spots and min(times) > 0 and max(times) > DECADE * min(times):
        ax.set_xscale("log")
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.xaxis.set_major_formatter("{x:g}")
        ax.xaxis.set_minor_locator(NullLocator())
    ax.grid(alpha=0.3)


def _number_axis(ax: Any, places: Sequence[float], is_log: bool) -> None:
    """Name the values that were trained, if they are few."""
    from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

    if is_log:
        ax.set_xscale("log")
    if len(places) <= MAX_TICKS:
        ax.xaxis.set_major_locator(FixedLocator(list(places)))
        ax.xaxis.set_major_formatter(FixedFormatter([f"{place:g}" for place in places]))
        ax.xaxis.set_minor_locator(NullLocator())


def _words(axis: str) -> str:
    """The axis for a reader: `train.batch_size` is `batch size`."""
    return caption(axis.rpartition(".")[2].replace("_", " "))


def _name(axis: str, label: Label | None) -> str:
    """A place on an axis: a number with what it counts, a name alone."""
    return f"{_words(axis)} {label:g}" if isinstance(label, (int, float)) else caption(str(label))


def program(argv: Sequence[str] | None = None) -> None:
    """Parse and draw."""
    parser = argparse.ArgumentParser(prog="figures", description="Pictures of finished runs.")
    commands = parser.add_subparsers(dest="command", required=True)
    convergence = commands.add_parser(
        "convergence", help="a score of several runs over epochs and over minutes"
    )
    convergence.add_argument(
        "runs", nargs="+", metavar="RUN", help="folder of a run, or NAME=FOLDER"
    )
    convergence.add_argument("--out", required=True, type=expanded_path, help="the PNG to write")
    convergence.add_argument("--score", default="knn", help="a column of eval.csv (default: knn)")
    arguments = parser.parse_args(argv)
    runs: dict[str, Path] = {}
    for text in arguments.runs:
        name, equals, folder = text.partition("=")
        name, folder = (
            (name, folder) if equals and not Path(text).exists() else (Path(text).name, text)
        )
        if name in runs:
            raise ConfigError(
                f"{text}: two runs are called {name}; tell them apart with NAME=FOLDER."
            )
        runs[name] = Path(expanded_path(folder))
    draw_convergence(runs, Path(arguments.out), arguments.score)
    print(f"written to {arguments.out}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program and return its exit status."""
    return exit_status("figures", program, argv)


if __name__ == "__main__":
    sys.exit(main())
