"""Tables from measured times: medians, spread, and medians of the ratios within each round."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from ffcv_ssl.benchmarks.entries import CEILING, OURS
from ffcv_ssl.benchmarks.rounds import OK
from ffcv_ssl.benchmarks.workloads import STEP_TITLE, STEPWISE

Row = Mapping[str, Any]
Table = list[list[str]]
GB = 1e9


def rates(row: Row) -> list[float]:
    """Return the images per second of each epoch, without its start."""
    return [images / s for images, s in zip(row["images"], row["seconds"], strict=True)]


def rate(row: Row) -> float:
    """Return the median images per second."""
    return statistics.median(rates(row))


def spread(row: Row) -> tuple[float, float]:
    """Return the images per second of the slowest and the fastest epoch."""
    return min(rates(row)), max(rates(row))


def start(row: Row) -> str:
    """Return the median milliseconds from `iter()` to the first batch, or an empty text."""
    if row["kind"] == CEILING or not row.get("start_s"):
        return ""
    return f"{1e3 * statistics.median(row['start_s']):,.0f}"


def ratio(row: Row, other: Row) -> float:
    """Return the speed relative to `other`: the median of the ratios within each round."""
    pairs = zip(rates(row), rates(other), strict=True)
    return statistics.median(own / theirs for own, theirs in pairs)


def measured(result: Mapping[str, Any]) -> list[Row]:
    """Return the rows that were measured in every round."""
    return [row for row in result["rows"] if row["status"] == OK and row["seconds"]]


def row_of(result: Mapping[str, Any], key: str) -> Row | None:
    """Return the measured row of a contestant, or None."""
    return next((row for row in measured(result) if row["key"] == key), None)


def ceiling(result: Mapping[str, Any]) -> Row | None:
    """Return the row of the fastest plain decoder, or None."""
    return max((row for row in measured(result) if row["kind"] == CEILING), key=rate, default=None)


def table(result: Mapping[str, Any]) -> Table:
    """Return the table of one workload, header first.

    The columns are rates, start of an epoch, speed relative to plain decode, and the speed of each
    ffcv_ssl row relative to the contestant. Ratios to a peer that leaves out operations are in
    brackets.
    """
    references = [row for row in measured(result) if row["kind"] == OURS]
    top = ceiling(result)
    has_start = any(start(row) for row in measured(result))
    header = [
        "",
        "images/s",
        "slowest - fastest",
        "views/s",
        *(["start, ms"] if has_start else []),
        *(["of decode"] if top else []),
        *(f"{short(own)} is" for own in references),
    ]
    lines = [header]
    for row in result["rows"]:
        if row["status"] != OK or not row["seconds"]:
            lines.append([row["name"], row["status"]])
            continue
        slowest, fastest = spread(row)
        views = "" if row["kind"] == CEILING else f"{rate(row) * result['views']:,.0f}"
        cells = [
            row["name"] + (" *" if row["lacks"] else ""),
            f"{rate(row):,.0f}",
            f"{slowest:,.0f} - {fastest:,.0f}",
            views,
        ]
        cells += [start(row)] if has_start else []
        cells += [f"{ratio(row, top):.2f}"] if top else []
        for own in references:
            times = f"{ratio(own, row):.2f}x"
            cells.append("" if row is own else f"({times})" if row["lacks"] else times)
        lines.append(cells)
    return lines


def short(row: Row) -> str:
    """Return the short label of an ffcv_ssl row, for a column header."""
    return row["name"].partition(", ")[2] or row["name"]


def remarks(result: Mapping[str, Any]) -> list[str]:
    """Return the remarks below a table: absences, differing operations, the reference decoder."""
    lines = []
    for row in result["rows"]:
        if row["status"] != OK:
            lines.append(f"{row['name']}: {row['status']}: {row['reason']}")
            continue
        if row.get("lacks"):
            lines.append(f"* {row['name']} leaves out {', '.join(row['lacks'])}")
        if row.get("notes"):
            lines.append(f"{row['name']}: {'; '.join(row['notes'])}")
    if top := ceiling(result):
        lines.append(
            f"of decode: images/s relative to {top['name']}, the fastest plain decoder of this run"
        )
    return lines


def title(result: Mapping[str, Any]) -> str:
    """Return the description of a workload in one line."""
    repeats = max((len(row["seconds"]) for row in result["rows"]), default=0)
    limit = f" or {result['epoch_s']:g} s" if "epoch_s" in result else ""
    epochs = f"median of {repeats} epochs of {result['num_images']:,} images{limit}"
    return f"{result['title']} - {result['images']}; batches of {result['batch_size']}; {epochs}"


def steps_table(results: Sequence[Mapping[str, Any]]) -> Table:
    """Return the milliseconds per view and core of the crop, and the increase by each step."""
    steps = [result for result in results if result["name"] in STEPWISE]
    if not steps:
        return []
    lines = [
        [
            "ms per view and core",
            *(result["title"].removeprefix(STEP_TITLE) for result in steps),
            "all",
        ]
    ]
    for row in steps[0]["rows"]:
        if row["kind"] == CEILING:
            continue
        times = [
            core_ms(other) if (other := row_of(result, row["key"])) else None for result in steps
        ]
        lacking = [
            bool((other := row_of(result, row["key"])) and other["lacks"]) for result in steps
        ]
        if not any(times):
            continue
        cells = [row["name"]]
        for index, (now, lacks) in enumerate(zip(times, lacking, strict=True)):
            before = times[index - 1] if index else 0.0
            missed = lacks and (
                not index
                or _lacks(steps[index], row["key"]) != _lacks(steps[index - 1], row["key"])
            )
            cells.append(
                "lacks"
                if missed
                else "-"
                if now is None or before is None
                else f"{now - before:{'+' if index else ''}.2f}"
            )
        lines.append([*cells, "-" if times[-1] is None else f"{times[-1]:.2f}"])
    return lines


def _lacks(result: Mapping[str, Any], key: str) -> list[str]:
    """Return the operations that a contestant leaves out."""
    row = row_of(result, key)
    return list(row["lacks"]) if row else []


def core_ms(row: Row) -> float:
    """Return the milliseconds of one core per image."""
    return 1e3 * row["workers"] / rate(row)


def as_text(lines: Table) -> str:
    """Format a table as plain text; all columns but the first are right-aligned."""
    columns = max(map(len, lines))
    padded = [[*cells, *[""] * (columns - len(cells))] for cells in lines]
    widths = [max(len(cells[column]) for cells in padded) for column in range(columns)]
    shown = []
    for cells in padded:
        first, *rest = zip(cells, widths, strict=True)
        shown.append(
            "  ".join(
                [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in rest)]
            ).rstrip()
        )
    return "\n".join(shown)


def as_markdown(lines: Table) -> str:
    """Format a table as Markdown."""
    columns = max(map(len, lines))
    padded = [[*cells, *[""] * (columns - len(cells))] for cells in lines]
    rule = ["---", *["---:"] * (columns - 1)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [padded[0], rule, *padded[1:]])


def result_text(result: Mapping[str, Any]) -> str:
    """Return title, table and remarks of one workload."""
    return "\n".join(
        [title(result), as_text(table(result)), *(f"  {line}" for line in remarks(result))]
    )


def first_batch_table(rows: Sequence[Row]) -> Table:
    """Return the seconds to the first batch by contestant, cache state and workload."""
    names = list(dict.fromkeys(row["workload"] for row in rows))
    lines = [["s from `import torch` to the first batch", *names]]
    for key, cache in dict.fromkeys((row["key"], row["cache"]) for row in rows):
        cells, label = [], ""
        for name in names:
            (row,) = (
                row
                for row in rows
                if (row["key"], row["cache"], row["workload"]) == (key, cache, name)
            )
            label = row["name"] + (f", {cache} kernel cache" if cache != "none" else "")
            seconds = row["seconds"]
            cells.append(
                f"{statistics.median(seconds):.2f} [{min(seconds):.2f} - {max(seconds):.2f}]"
                if seconds
                else row["status"]
            )
        lines.append([label, *cells])
    return lines


def memory_text(measured: Mapping[str, Any]) -> str:
    """Return the result of the memory measurement in three lines."""
    if measured["status"] != OK:
        return f"memory: {measured['status']}: {measured['reason']}"
    now = measured["after_epoch"]
    quarter = max(1, len(now) // 4)
    early, late = (statistics.median(part) / GB for part in (now[:quarter], now[-quarter:]))
    return (
        f"Memory, {measured['title']} (a batch takes {measured['batch_bytes'] / GB:.2f} GB):\n"
        f"  peak: {memory_above(measured):.2f} GB above the {measured['idle'] / GB:.2f} GB "
        "of an idle process\n"
        f"  after an epoch: {early:.2f} GB in the first quarter of {len(now)} epochs, "
        f"{late:.2f} GB in the last quarter"
    )


def memory_above(measured: Mapping[str, Any]) -> float:
    """Return the peak memory above an idle process, in GB."""
    return (measured["peak"] - measured["idle"]) / GB


def scaling_table(result: Mapping[str, Any]) -> Table:
    """Return the images per second by number of threads, and the speedup over one thread."""
    rows = measured(result)
    families = list(dict.fromkeys(row["key"].rpartition("_")[0] for row in rows))
    threads = sorted({row["workers"] for row in rows})
    lines = (
        [["images/s by threads", *map(str, threads), f"{threads[-1]} against 1"]] if threads else []
    )
    for family in families:
        members = {row["workers"]: row for row in rows if row["key"].rpartition("_")[0] == family}
        cells = [f"{rate(members[count]):,.0f}" if count in members else "-" for count in threads]
        name = next(iter(members.values()))["name"].rpartition(", ")[0]
        times = (
            f"{ratio(members[threads[-1]], members[1]):.2f}x"
            if {1, threads[-1]} <= members.keys()
            else "-"
        )
        lines.append([name, *cells, times])
    return lines
