"""The whole benchmark: images, workloads, tables, JSON and chart."""

import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ffcv_ssl.benchmarks import extras, images, machine, report
from ffcv_ssl.benchmarks.chart import draw
from ffcv_ssl.benchmarks.config import DataConfig, PeerConfig, RunConfig
from ffcv_ssl.benchmarks.entries import PEER, Entry, entries
from ffcv_ssl.benchmarks.rounds import measure
from ffcv_ssl.benchmarks.workloads import WORKLOADS, Workload
from ffcv_ssl.errors import ConfigError
from ffcv_ssl.system.cores import allowed_cores

FORMAT = 2  # of the JSON


def run(data: DataConfig, options: RunConfig, peer: PeerConfig) -> dict[str, Any]:
    """Measure what the options ask for; print tables as they come, write JSON and chart.

    Returns
    -------
    dict
        What the JSON holds.
    """
    description = machine.describe()
    epochs = options.measured_epochs()
    workers = allowed_cores() if options.workers == -1 else options.workers
    say(machine.as_text(description))
    result = kept(options) | {"format": FORMAT, "machine": description, "workers": workers}
    workloads = [WORKLOADS[name] for name in options.workload_names()]
    contestants = [
        e
        for e in entries(peer.pythons(), options.decode_options())
        if e.kind != PEER or e.key in peer.names()
    ]
    with tempfile.TemporaryDirectory(prefix="ffcv_ssl_bench_") as scratch:
        sources = write_images(data, workloads, options.extra_names(), Path(scratch))
        for workload in workloads:
            source = sources[workload.source]
            chosen = taking_part(contestants, workload, source)
            measured = measure(workload, source, chosen, workers, epochs, options.timeout_s, note)
            result["workloads"] = with_measured(result["workloads"], measured)
            say(f"\n{report.result_text(measured)}")
            save(result, options.out)
        say_ladder(result)
        for name in options.extra_names():
            result[name], text = EXTRAS[name](sources["photos"], contestants, workers, options)
            say(f"\n{text}")
            save(result, options.out)
    say(f"\n{options.out}, {draw(result, Path(options.out).with_suffix('.png'))}")
    return result


def kept(options: RunConfig) -> dict[str, Any]:
    """What an earlier run has left in the JSON, where it is to be kept."""
    path = Path(options.out)
    if not (options.keep and path.exists()):
        return {"workloads": []}
    result = json.loads(path.read_text(encoding="utf-8"))
    if result.get("format") != FORMAT:
        raise ConfigError(
            f"{path}: format {result.get('format')}, not {FORMAT}; give another --out."
        )
    return result


def with_measured(
    workloads: Sequence[Mapping[str, Any]], measured: Mapping[str, Any]
) -> list[Mapping[str, Any]]:
    """The results with a new one in the place of its like, in the order of the workloads."""
    by_name = {each["name"]: each for each in [*workloads, measured]}
    return [by_name[name] for name in WORKLOADS if name in by_name]


def write_images(
    data: DataConfig, workloads: Sequence[Workload], extras: Sequence[str], folder: Path
) -> dict[str, images.Images]:
    """Write or find the images that the workloads need: source → images."""
    wanted = {workload.source for workload in workloads} | ({"photos"} if extras else set())
    makers = {
        "photos": (images.photos, data.path, data.images),
        "patches": (images.patches, data.patches, data.patch_images),
    }
    return {
        source: make(None if path is None else Path(path), folder, count)
        for source, (make, path, count) in makers.items()
        if source in wanted
    }


def taking_part(
    contestants: Sequence[Entry], workload: Workload, source: images.Images
) -> list[Entry]:
    """The contestants of a workload: those it names, and of several decoders only one where nothing is decoded."""
    named = [entry for entry in contestants if workload.only is None or entry.key in workload.only]
    return [entry for entry in named if not (entry.needs_jpeg and source.is_raw)]


def _first_batch(
    source: images.Images, contestants: Sequence[Entry], workers: int, options: RunConfig
) -> tuple[Any, str]:
    rows = extras.first_batch(
        source, contestants, workers, options.repeats, options.timeout_s, note
    )
    return rows, report.as_text(report.first_batch_table(rows))


def _memory(
    source: images.Images, contestants: Sequence[Entry], workers: int, options: RunConfig
) -> tuple[Any, str]:
    measured = extras.memory(source, workers, options.epochs, options.timeout_s, note)
    return measured, report.memory_text(measured)


def _scaling(
    source: images.Images, contestants: Sequence[Entry], workers: int, options: RunConfig
) -> tuple[Any, str]:
    measured = extras.scaling(source, workers, options.measured_epochs(), options.timeout_s, note)
    return measured, report.as_text(report.scaling_table(measured))


EXTRAS = {"first_batch": _first_batch, "memory": _memory, "scaling": _scaling}


def say_ladder(result: Mapping[str, Any]) -> None:
    """Print what every step of the ladder costs, if it was measured."""
    if lines := report.ladder_table(result["workloads"]):
        say(f"\n{report.as_text(lines)}")


def save(result: Mapping[str, Any], out: str) -> None:
    """Write the JSON; after every workload, so that a broken run leaves what it had."""
    path = Path(out)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def say(text: str) -> None:
    """Print to standard output."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def note(text: str) -> None:
    """Print progress to standard error."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
