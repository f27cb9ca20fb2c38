"""Beside throughput: seconds to the first batch, memory, and what a second thread brings."""

import statistics
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from ffcv_ssl.benchmarks.entries import CEILING, OURS, Entry, ours, scaling_entries
from ffcv_ssl.benchmarks.images import Images
from ffcv_ssl.benchmarks.rounds import OK, Turns, measure
from ffcv_ssl.benchmarks.workloads import SMALL, WORKLOADS, Epochs, Workload

Say = Callable[[str], None]
CACHE_DIR = "FFCV_SSL_CACHE_DIR"
COLD, WARM, NONE = "cold", "warm", "none"  # our kernel cache; others have none
FIRST_WORKLOADS = ("crop1", "simclr2")
COMPILING_STARTS = 3  # at most; FFCV and FFCV-SSL compile for a minute at every start
MEMORY = Workload(
    "memory",
    "20 uint8 views of 96, batches of 256, two ahead",
    "photos",
    (replace(SMALL, count=20),),
    batch_size=256,
)
MEMORY_BATCHES = 6  # per epoch, at least, so that the batches ahead are there


def first_batch(
    images: Images,
    contestants: Sequence[Entry],
    workers: int,
    repeats: int,
    timeout_s: float,
    say: Say,
) -> list[dict[str, Any]]:
    """Measure the seconds from `import torch` being done to the first batch, each time in a fresh process.

    Ours counts twice: with an empty kernel cache (then it compiles) and with a filled one.

    Returns
    -------
    list
        Fit for JSON: a row per workload, contestant and state of the cache, with its seconds.
    """
    rows = []
    for name in FIRST_WORKLOADS:
        workload = WORKLOADS[name]
        for entry in contestants:
            for cache in {OURS: (COLD, WARM), CEILING: ()}.get(entry.kind, (NONE,)):
                starts = repeats if cache == WARM else min(repeats, COMPILING_STARTS)
                row = {"workload": name, "cache": cache} | _starts(
                    workload, images, entry, workers, starts, timeout_s, cache
                )
                seconds = (
                    f"{statistics.median(row['seconds']):.2f} s"
                    if row["seconds"]
                    else row["reason"]
                )
                say(f"  first batch, {name}: {entry.name}, cache {cache}: {seconds}")
                rows.append(row)
    return rows


def _starts(
    workload: Workload,
    images: Images,
    entry: Entry,
    workers: int,
    starts: int,
    timeout_s: float,
    cache: str,
) -> dict[str, Any]:
    """Start a contestant again and again, with an empty kernel cache each time or with one that a start before has filled."""
    seconds: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        for start in range(-1 if cache == WARM else 0, starts):
            turns = Turns(
                entry,
                workers,
                timeout_s,
                {CACHE_DIR: folder if cache == WARM else f"{folder}/{start}"},
            )
            turns.start(workload, images, Epochs(count=0, seconds=0.0))  # then it ends
            turns.close()
            if turns.row["status"] != OK:
                break
            if start >= 0:
                seconds.append(turns.row["first_batch_s"])
    kept = ("key", "name", "kind", "status", "reason", "lacks")
    return {name: turns.row[name] for name in kept if name in turns.row} | {"seconds": seconds}


def memory(images: Images, workers: int, count: int, timeout_s: float, say: Say) -> dict[str, Any]:
    """Measure our loader's resident memory: idle after the imports, at its peak, and after each of
    `count` epochs; bytes.
    """
    entry = replace(ours("simplejpeg", "pip install"), loader={"batches_ahead": 2})
    epochs = Epochs(count, MEMORY_BATCHES * MEMORY.batch_size, timeout_s)
    rounds = []
    with ExitStack() as resources:
        for last in (
            False,
            True,
        ):  # the first process fills the kernel cache: compiling takes memory of its own
            turns = Turns(entry, workers, timeout_s)
            resources.callback(turns.close)
            turns.open()
            idle = turns.ask({"do": "load"})
            turns.prepare(MEMORY, images, epochs)
            for epoch in range(count if last else 0):
                turns.epoch()
                rounds.append(turns.ask({"do": "memory"}))
                if epoch % 20 == 19:
                    say(f"  memory: {epoch + 1} of {count} epochs")
            turns.close()
    if turns.row["status"] != OK:
        return {"status": turns.row["status"], "reason": turns.row["reason"]}
    return {
        "status": OK,
        "title": MEMORY.title,
        "batch_bytes": MEMORY.batch_size * 20 * 3 * 96 * 96,
        "idle": idle["now"],
        "peak": rounds[-1]["peak"],
        "after_epoch": [each["now"] for each in rounds],
    }


def scaling(
    images: Images, workers: int, epochs: Epochs, timeout_s: float, say: Say
) -> dict[str, Any]:
    """Measure `simclr2` with 1, 2, 4, … threads up to `workers`, ours and plain decode, in one interleaved run."""
    return measure(
        WORKLOADS["simclr2"], images, scaling_entries(workers), workers, epochs, timeout_s, say
    )
