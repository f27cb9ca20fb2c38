"""Draw figures of finished runs.

Command    python recipes/figures.py convergence RUN RUN ... --out=convergence.png [--score=knn]
           RUN is the folder of a run, or NAME=FOLDER. Draws accuracy over epochs and over minutes
           of training, side by side. `sweep.py` draws the figure of a study.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ffcv_ssl.cli.status import exit_status
from ffcv_ssl.errors import ConfigError
from ffcv_ssl.recipes.cells import Outcome
from ffcv_ssl.recipes.report import is_accuracy, pareto_frontier, summary, title_of, values_at
from ffcv_ssl.recipes.study import Label, Study
from ffcv_ssl.runs.record import read_rows
from ffcv_ssl.system.names import caption
from ffcv_ssl.system.paths import expanded_path

DPI = 140
MARKERS = "osD^vP*X"
DECADE = 10  # ratio of training times above which their axis is logarithmic
MAX_TICKS = 12  # largest number of values that have a tick each


def draw_study(study: Study, outcomes: Sequence[Outcome], path: Path) -> None:
    """Draw the results of a sweep to a PNG.

    A numeric x axis has lines, shaded by the standard deviation over seeds. An axis of names is
    vertical and has points with error bars. Axes that are neither `x` nor `lines` have one panel
    for each combination of their labels. The title states the number of seeds per point.

    Parameters
    ----------
    study
        The study.
    outcomes
        Finished cells, at least one. Points without a finished cell are not drawn.
    path
        File to write.
    """
    others = [axis for axis in study.axes if axis not in (study.x, study.lines)]
    panels = list({tuple(point[axis] for axis in others): None for point in study.points()})
    num_panels = len(panels) + study.frontier
    is_numeric = study.is_numeric(study.x)
    height = 4.0 if is_numeric else max(2.4, 1.2 + 0.42 * len(study.axes[study.x]))
    if study.frontier:
        height = max(height, 4.0)
    figure = _figure(max(6.0, 4.4 * num_panels), height)
    axes = figure.subplots(1, num_panels, squeeze=False)[0]
    for ax, labels in zip(axes, panels, strict=False):
        if ax is not axes[0]:
            ax.sharex(axes[0]) if not is_numeric else ax.sharey(axes[0])
        fixed = dict(zip(others, labels, strict=True))
        _draw_panel(ax, study, outcomes, fixed, is_first=ax is axes[0])
    if study.frontier:
        _draw_frontier(axes[-1], study, outcomes)
    counts = {
        sum(outcome.cell.point == point for outcome in outcomes) for point in study.points()
    } - {0}
    n = " to ".join(map(str, sorted({min(counts), max(counts)})))
    figure.suptitle(f"{caption(study.title)} (n = {n})", fontsize=11)
    figure.savefig(path)


def draw_convergence(runs: Mapping[str, Path], path: Path, score: str = "knn") -> None:
    """Draw a score of several runs over epochs and over minutes of training to a PNG.

    Parameters
    ----------
    runs
        Name → folder of a run, with eval.csv.
    path
        File to write.
    score
        Column of eval.csv.

    Raises
    ------
    ConfigError
        If a run does not have the column.
    """
    key = f"scores.{score}"
    scale = 100 if is_accuracy(key) else 1
    figure = _figure(10.0, 4.0)
    by_epoch, by_minute = figure.subplots(1, 2, sharey=True)
    for number, (name, folder) in enumerate(runs.items()):
        rows = read_rows(folder / "eval.csv")
        if not rows or score not in rows[0]:
            if rows:
                advice = f"It has {', '.join(rows[0])}."
            else:
                advice = "Set data.val and eval.times to evaluate during training."
            raise ConfigError(f"{folder}: no '{score}' in eval.csv. {advice}")
        values = [scale * row[score] for row in rows]
        style: dict[str, Any] = {**_style(number), "markersize": 4, "linewidth": 1.5}
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
    """Return an empty figure, size in inches, without global state and without a display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _style(number: int) -> dict[str, Any]:
    """Return color and marker of a line."""
    return {"color": f"C{number}", "marker": MARKERS[number % len(MARKERS)]}


def _draw_panel(
    ax: Any, study: Study, outcomes: Sequence[Outcome], fixed: Mapping[str, Label], is_first: bool
) -> None:
    """Draw a line (or column of points) for each label of `lines` and each `y`."""
    line_labels = study.axes[study.lines] if study.lines else [None]
    lines = [(label, key) for label in line_labels for key in study.y]
    is_numeric = study.is_numeric(study.x)
    x_labels: list[Any] = list(study.axes[study.x])
    if is_numeric:
        x_labels.sort()
    for number, (label, key) in enumerate(lines):
        point: dict[str, Any] = {**fixed, **({study.lines: label} if study.lines else {})}
        found = [summary(values_at(outcomes, {**point, study.x: x}, key)) for x in x_labels]
        shown = [
            (i, item.mean, item.deviation or 0.0)
            for i, item in enumerate(found)
            if item.mean is not None
        ]
        means, spread = [mean for _, mean, _ in shown], [deviation for *_, deviation in shown]
        names = [_name(study.lines, label)] if study.lines else []
        names += [title_of(key)] if len(study.y) > 1 else []
        style: dict[str, Any] = {**_style(number), "markersize": 5, "label": ", ".join(names)}
        if is_numeric:
            xs = [x_labels[i] for i, *_ in shown]
            ax.plot(xs, means, linewidth=1.5, **style)
            low, high = (
                [mean + sign * s for mean, s in zip(means, spread, strict=True)] for sign in (-1, 1)
            )
            ax.fill_between(xs, low, high, color=style["color"], alpha=0.2, linewidth=0)
        else:
            shift = 0.6 * ((number + 0.5) / len(lines) - 0.5)
            ys = [i + shift for i, *_ in shown]
            ax.errorbar(means, ys, xerr=spread, linestyle="none", capsize=3, **style)
    quantity = "%" if all(map(is_accuracy, study.y)) else "value"
    if len(study.y) == 1:
        quantity = title_of(study.y[0])
    if is_numeric:
        _number_axis(ax, x_labels, study.log_x)
        ax.set(xlabel=_words(study.x), ylabel=quantity if is_first else "")
    else:
        ax.set_yticks(range(len(x_labels)), [caption(str(label)) for label in x_labels])
        ax.set_ylim(len(x_labels) - 0.5, -0.5)  # the first label on top
        ax.set_xlabel(quantity)
    ax.grid(alpha=0.3)
    if fixed:
        title = ", ".join(_name(axis, label) for axis, label in fixed.items())
        ax.set_title(title, fontsize=9)
    if len(lines) > 1 and is_first:
        ax.legend(fontsize=8)


def _draw_frontier(ax: Any, study: Study, outcomes: Sequence[Outcome]) -> None:
    """Draw the error of every point over its training time, and their Pareto frontier."""
    key = study.y[0]
    whole = 100.0 if is_accuracy(key) else 1.0
    measured = []
    for point in study.points():
        score, seconds = (
            summary(values_at(outcomes, point, name)).mean for name in (key, "seconds")
        )
        if score is not None and seconds is not None:
            measured.append((point, (seconds / 60, whole - score)))
    kept = pareto_frontier([position for _, position in measured])
    lines = list(study.axes[study.lines]) if study.lines else [None]
    for number, label in enumerate(lines):
        own = [
            position
            for point, position in measured
            if not study.lines or point[study.lines] == label
        ]
        if own:
            style = {**_style(number), "markersize": 6, "linestyle": "none"}
            ax.plot(*zip(*own, strict=True), **style)
    if kept:
        style = {"drawstyle": "steps-post", "color": "0.3", "linewidth": 1, "zorder": 0}
        frontier = [measured[i][1] for i in kept]
        ax.plot(*zip(*frontier, strict=True), label="frontier", **style)
        ax.legend(fontsize=8)
    for i in kept:
        point, position = measured[i]
        names = [_name(axis, label) for axis, label in point.items() if axis != study.lines]
        ax.annotate(
            ", ".join(names), position, textcoords="offset points", xytext=(5, 5), fontsize=7
        )
    devices = {str(outcome.result.get("device")) for outcome in outcomes}
    minutes = f"minutes of training{'' if len(devices) == 1 else ', on different devices'}"
    ax.set(xlabel=minutes, ylabel=f"error: {whole:g} - {title_of(key)}")
    ax.margins(x=0.3, y=0.1)
    _time_axis(ax, [time for _, (time, _) in measured])
    ax.grid(alpha=0.3)


def _time_axis(ax: Any, times: Sequence[float]) -> None:
    """Make the x axis logarithmic if the times differ by more than a factor `DECADE`."""
    from matplotlib.ticker import LogLocator, NullLocator

    if times and min(times) > 0 and max(times) > DECADE * min(times):
        ax.set_xscale("log")
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.xaxis.set_major_formatter("{x:g}")
        ax.xaxis.set_minor_locator(NullLocator())


def _number_axis(ax: Any, values: Sequence[float], is_log: bool) -> None:
    """Put a tick at each value on the x axis, if there are few."""
    from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

    if is_log:
        ax.set_xscale("log")
    if len(values) <= MAX_TICKS:
        ax.xaxis.set_major_locator(FixedLocator(list(values)))
        ax.xaxis.set_major_formatter(FixedFormatter([f"{value:g}" for value in values]))
        ax.xaxis.set_minor_locator(NullLocator())


def _words(axis: str) -> str:
    """Return the title of an axis: `train.batch_size` is `batch size`."""
    return caption(axis.rpartition(".")[2].replace("_", " "))


def _name(axis: str, label: Label | None) -> str:
    """Return a label for a legend: a number with its axis, a name alone."""
    if isinstance(label, (int, float)):
        return f"{_words(axis)} {label:g}"
    return caption(str(label))


def program(argv: Sequence[str] | None = None) -> None:
    """Draw the figure that the arguments describe; let errors propagate."""
    parser = argparse.ArgumentParser(prog="figures", description="Draw figures of finished runs.")
    commands = parser.add_subparsers(dest="command", required=True)
    convergence = commands.add_parser(
        "convergence", help="draw a score of several runs over epochs and over minutes"
    )
    convergence.add_argument(
        "runs", nargs="+", metavar="RUN", help="Folder of a run, or NAME=FOLDER"
    )
    convergence.add_argument("--out", required=True, type=expanded_path, help="PNG to write")
    convergence.add_argument("--score", default="knn", help="Column of eval.csv. Default: knn")
    arguments = parser.parse_args(argv)
    runs: dict[str, Path] = {}
    for text in arguments.runs:
        name, equals, folder = text.partition("=")
        if not equals or Path(text).exists():
            name, folder = Path(text).name, text
        if name in runs:
            raise ConfigError(
                f"{text}: two runs are called {name}; give them names with NAME=FOLDER."
            )
        runs[name] = Path(expanded_path(folder))
    draw_convergence(runs, Path(arguments.out), arguments.score)
    print(f"written to {arguments.out}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program with these arguments and return its exit status."""
    return exit_status("figures", program, argv)


if __name__ == "__main__":
    sys.exit(main())
