"""Bar chart of a benchmark run: one panel per workload, one bar per contestant."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ffcv_ssl.benchmarks.entries import CEILING, OURS
from ffcv_ssl.benchmarks.report import measured, rate, spread
from ffcv_ssl.benchmarks.workloads import STEPWISE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLUMNS, PANEL_WIDTH, BAR_HEIGHT, PANEL_EXTRA = 2, 6.6, 0.27, 0.75  # inches
COLORS = {OURS: "#1b7f5c", CEILING: "#c9c9c9", "peer": "#6d7f99"}
LABEL_WIDTH = 0.017  # of the longest bar, per letter of a label


def draw(result: Mapping[str, Any], path: Path) -> Path:
    """Draw the measured workloads to a PNG and return its path.

    Of the workloads that build the chain step by step, the chart shows only the last one.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    left_out = set(STEPWISE[:-1])
    shown = [
        each for each in result["workloads"] if measured(each) and each["name"] not in left_out
    ]
    if not shown:
        return path
    panel_rows = [shown[first : first + COLUMNS] for first in range(0, len(shown), COLUMNS)]
    heights = [
        max(len(measured(each)) for each in line) * BAR_HEIGHT + PANEL_EXTRA for line in panel_rows
    ]
    columns = min(COLUMNS, len(shown))
    figure = Figure(
        figsize=(PANEL_WIDTH * columns, sum(heights) + 0.5), dpi=110, layout="constrained"
    )
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(panel_rows), columns, squeeze=False, height_ratios=heights)
    for line, row_of_axes in zip(panel_rows, axes, strict=True):
        for each, ax in zip(line, row_of_axes, strict=False):
            _panel(ax, each)
        for ax in row_of_axes[len(line) :]:
            ax.set_axis_off()
    machine = result["machine"]
    figure.suptitle(
        "Images per second after the first batch, median and spread; "
        f"{result['workers']} threads or processes each, {machine['cpu']}",
        fontsize=10,
    )
    figure.savefig(path)
    return path


def _panel(ax: Axes, result: Mapping[str, Any]) -> None:
    """Draw one workload: bars from the fastest to the slowest, then plain decode."""
    rows = sorted(measured(result), key=lambda row: (row["kind"] == CEILING, -rate(row)))
    rates = [rate(row) for row in rows]
    errors = [[value - spread(row)[0] for value, row in zip(rates, rows, strict=True)]]
    errors.append([spread(row)[1] - value for value, row in zip(rates, rows, strict=True)])
    ax.barh(range(len(rows)), rates, color=[COLORS[row["kind"]] for row in rows], height=0.72)
    ax.errorbar(
        rates,
        range(len(rows)),
        xerr=errors,
        fmt="none",
        ecolor="#333333",
        elinewidth=0.8,
        capsize=2,
    )
    longest = max(fastest for row in rows for fastest in spread(row)[1:])
    limit = longest
    for index, (row, value) in enumerate(zip(rows, rates, strict=True)):
        label, end = _label(row, value), spread(row)[1] + 0.015 * longest
        ax.text(end, index, label, va="center", fontsize=7.5)
        limit = max(limit, end + LABEL_WIDTH * len(label) * longest)
    ax.set_yticks(range(len(rows)), [row["name"] for row in rows], fontsize=8)
    ax.set_xlim(0, limit)
    ax.invert_yaxis()
    ax.set_title(result["title"], fontsize=9, loc="left")
    ax.tick_params(axis="x", labelsize=7.5)
    ax.spines[["top", "right"]].set_visible(False)


def _label(row: Mapping[str, Any], value: float) -> str:
    """Return the rate and the operations that the contestant leaves out."""
    digits = 0 if value >= 100 else max(0, 2 - math.floor(math.log10(max(value, 1e-3))) - 1)
    lacks = f" without {', '.join(row['lacks'])}" if row.get("lacks") else ""
    return f"{value:,.{digits}f}{lacks}"
