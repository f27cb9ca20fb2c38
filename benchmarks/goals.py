"""Performance goals and the values that a run reached: ratios within one run on two cores."""

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ffcv_ssl.benchmarks import kernel_times
from ffcv_ssl.benchmarks.report import Row, Table, ceiling, core_ms, memory_above, ratio, row_of

OURS_KEYS = ("ours_pip", "ours_native")
Result = Mapping[str, Any]
Value = Callable[[Result, str], float | None]


@dataclass(frozen=True)
class Goal:
    """A performance goal.

    Parameters
    ----------
    text
        Description, in Markdown.
    limit
        Value to reach, in `unit`.
    value
        Function of a run's JSON and the key of an ffcv_ssl row that returns the measured value, or
        None where it was not measured.
    unit
        Unit of the limit; empty for a dimensionless value.
    at_most
        Whether the limit is an upper limit.
    """

    text: str
    limit: float
    value: Value
    unit: str = "x"
    at_most: bool = False

    def wanted(self) -> str:
        """Return the limit as text."""
        return f"{'≤' if self.at_most else '≥'} {self.limit:,g} {self.unit}".rstrip()

    def shown(self, result: Result, key: str) -> str:
        """Return the measured value of an ffcv_ssl row, and whether it meets the goal."""
        value = self.value(result, key)
        if value is None:
            return "-"
        reached = value <= self.limit if self.at_most else value >= self.limit
        digits = 0 if abs(value) >= 1000 else 2
        return f"{value:,.{digits}f} {'yes' if reached else 'no'}"


def _rows(result: Result, workload: str, *keys: str) -> list[Row] | None:
    """Return the rows of a workload in the order of the keys, or None if one is missing."""
    found = [each for each in result["workloads"] if each["name"] == workload]
    rows = [row for each in found for key in keys if (row := row_of(each, key))]
    return rows if found and len(rows) == len(keys) else None


def against(workload: str, peer: str) -> Value:
    """Return the speed relative to a peer."""

    def value(result: Result, key: str) -> float | None:
        rows = _rows(result, workload, key, peer)
        return ratio(*rows) if rows else None

    return value


def of_decode(workload: str) -> Value:
    """Return the speed relative to the fastest plain decoder."""

    def value(result: Result, key: str) -> float | None:
        rows = _rows(result, workload, key)
        top = ceiling(
            next((each for each in result["workloads"] if each["name"] == workload), {"rows": []})
        )
        return ratio(rows[0], top) if rows and top else None

    return value


def views_per_core(workload: str) -> Value:
    """Return the views per second and core."""

    def value(result: Result, key: str) -> float | None:
        rows = _rows(result, workload, key)
        views = next((each["views"] for each in result["workloads"] if each["name"] == workload), 0)
        return views * 1e3 / core_ms(rows[0]) if rows else None

    return value


def first_batch(workload: str, cache: str) -> Value:
    """Return the median number of seconds to the first batch."""

    def value(result: Result, key: str) -> float | None:
        wanted = {"workload": workload, "cache": cache, "key": key}
        rows = [row for row in result.get("first_batch", ()) if wanted.items() <= row.items()]
        return statistics.median(rows[0]["seconds"]) if rows and rows[0]["seconds"] else None

    return value


def memory(result: Result, key: str) -> float | None:
    """Return the peak memory above an idle process in GB; only the pip install row has a value."""
    measured = result.get("memory", {})
    return (
        memory_above(measured) if key == OURS_KEYS[0] and measured.get("status") == "ok" else None
    )


def writer(way: str) -> Value:
    """Return the speed relative to FFCV's writer, without the start."""

    def value(result: Result, key: str) -> float | None:
        results = result.get("writer", {}).get("results", ())
        chosen: Result = next((each for each in results if each["name"] == way), {"rows": []})
        own, ffcv = (row_of(chosen, name) for name in (key, "ffcv"))
        return ratio(own, ffcv) if own and ffcv else None

    return value


def kernel(*steps: str) -> Value:
    """Return the milliseconds of one core for steps of the view kernel (275 → 224)."""

    def value(result: Result, key: str) -> float | None:
        return (
            sum(kernel_times.added(result["kernels"]["large"], step) for step in steps)
            if "kernels" in result
            else None
        )

    return value


GOALS = (
    Goal("`simclr2` without blur, against FFCV-SSL", 6, against("simclr2_noblur", "ffcv_ssl_fb")),
    Goal("`simclr2` without blur, against DALI on the CPU", 3, against("simclr2_noblur", "dali")),
    Goal(
        "`simclr2` without blur, against torchvision", 5, against("simclr2_noblur", "torchvision")
    ),
    Goal("`simclr2`, full chain, against plain decode", 0.40, of_decode("simclr2"), ""),
    Goal("`crop1` against FFCV", 2, against("crop1", "ffcv")),
    Goal("`crop1` against plain decode", 0.85, of_decode("crop1"), ""),
    Goal("`emp20`, views per second and core", 60_000, views_per_core("emp20"), ""),
    Goal("`emp20` against Pillow", 15, against("emp20", "pillow")),
    Goal(
        "jitter and gray, a view of 224",
        0.3,
        kernel("+ all four", kernel_times.GRAY),
        "ms",
        at_most=True,
    ),
    Goal("crop and resize, 275 to 224", 0.35, kernel(kernel_times.CROP), "ms", at_most=True),
    Goal("blur with sigma 2, a view of 224", 0.35, kernel("+ blur, sigma 2"), "ms", at_most=True),
    Goal(
        "first batch of `simclr2`, warm kernel cache",
        1.0,
        first_batch("simclr2", "warm"),
        "s",
        at_most=True,
    ),
    Goal(
        "first batch of `simclr2`, cold kernel cache",
        20,
        first_batch("simclr2", "cold"),
        "s",
        at_most=True,
    ),
    Goal(
        "memory above an idle process, 20 views of 96, batches of 256",
        0.8,
        memory,
        "GB",
        at_most=True,
    ),
    Goal("writer, decode and encode, against FFCV's", 1.8, writer("encode")),
    Goal('writer, JPEGs kept with `check="header"`, against FFCV\'s', 8, writer("keep")),
)


def goals_table(result: Result) -> Table:
    """Return one line per goal: the limit, and the value of each ffcv_ssl row."""
    lines = [["goal", "limit", "pip install", "native decoder"]]
    return lines + [
        [goal.text, goal.wanted(), *(goal.shown(result, key) for key in OURS_KEYS)]
        for goal in GOALS
    ]
