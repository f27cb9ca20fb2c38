"""Measurements beside throughput: time to the first batch, memory, scaling with threads."""

import statistics
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from ffcv_ssl.benchmarks.entries import CEILING, OURS, Entry, ours, scaling_entries
from ffcv_ssl.benchmarks.images import Images
from ffcv_ssl.benchmarks.rounds import OK, ContestantRun, measure
from ffcv_ssl.benchmarks.workloads import SMALL, WORKLOADS, Epochs, Workload

Progress = Callable[[str], None]
CACHE_DIR = "FFCV_SSL_CACHE_DIR"
COLD, WARM, NONE = "cold", "warm", "none"  # state of ffcv_ssl's kernel cache; the peers have none
FIRST_WORKLOADS = ("crop1", "simclr2")
COMPILING_STARTS = 3  # at most: FFCV and FFCV-SSL compile for a minute at every start
MEMORY = Workload(
    "memory",
    "20 uint8 views of 96, batches of 256, two ahead",
    "photos",
    (replace(SMALL, count=20),),
    batch_size=256,
)
MEMORY_BATCHES = 6  # per epoch, at least, so that the prefetched batches are allocated


def first_batch(
    images: Images,
    contestants: Sequence[Entry],
    workers: int,
    repeats: int,
    timeout_s: float,
    progress: Progress,
) -> list[dict[str, Any]]:
    """Measure the seconds from the end of `import torch` to the first batch.

    Every measurement uses a fresh process. ffcv_ssl is measured twice: with an empty kernel cache,
    where it compiles, and with a filled one.

    Rerun
    -------
    list
        JSON-serializable rows, one per workload, contestant and cache state.
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
                progress(f"  first batch, {name}: {entry.name}, cache {cache}: {seconds}")
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
    """Start a contestant repeatedly, with an empty or a filled kernel cache."""
    seconds: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        for start in range(-1 if cache == WARM else 0, starts):
            run = ContestantRun(
                entry,
                workers,
                timeout_s,
                {CACHE_DIR: folder if cache == WARM else f"{folder}/{start}"},
            )
            run.start(
                workload, images, Epochs(count=0, seconds=0.0)
            )  # no epoch after the first batch
            run.close()
            if run.row["status"] != OK:
                break
            if start >= 0:
                seconds.append(run.row["first_batch_s"])
    kept = ("key", "name", "kind", "status", "reason", "lacks")
    return {name: run.row[name] for name in kept if name in run.row} | {"seconds": seconds}


def memory(
    images: Images, workers: int, count: int, timeout_s: float, progress: Progress
) -> dict[str, Any]:
    """Measure the loader's resident memory in bytes.

    The result holds the memory of an idle process after the imports, the peak, and the memory after
    each of `count` epochs.
    """
    entry = replace(ours("simplejpeg", "pip install"), loader={"batches_ahead": 2})
    epochs = Epochs(count, MEMORY_BATCHES * MEMORY.batch_size, timeout_s)
    rounds = []
    with ExitStack() as resources:
        for last in (
            False,
            True,
        ):  # the first process fills the kernel cache, because compilation uses memory
            run = ContestantRun(entry, workers, timeout_s)
            resources.callback(run.close)
            run.open()
            idle = run.ask({"do": "load"})
            run.prepare(MEMORY, images, epochs)
            for epoch in range(count if last else 0):
                run.epoch()
                rounds.append(run.ask({"do": "memory"}))
                if epoch % 20 == 19:
                    progress(f"  memory: {epoch + 1} of {count} epochs")
            run.close()
    if run.row["status"] != OK:
        return {"status": run.row["status"], "reason": run.row["reason"]}
    return {
        "status": OK,
        "title": MEMORY.title,
        "batch_bytes": MEMORY.batch_size * 20 * 3 * 96 * 96,
        "idle": idle["now"],
        "peak": rounds[-1]["peak"],
        "after_epoch": [each["now"] for each in rounds],
    }


def scaling(
    images: Images, workers: int, epochs: Epochs, timeout_s: float, progress: Progress
) -> dict[str, Any]:
    """Measure ffcv_ssl and plain decode on `simclr2` with 1, 2, 4, … threads up to `workers`."""
    return measure(
        WORKLOADS["simclr2"], images, scaling_entries(workers), workers, epochs, timeout_s, progress
    )
