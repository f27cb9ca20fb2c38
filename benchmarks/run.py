"""The complete benchmark: images, workloads, tables, JSON and chart."""

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

FORMAT = 2  # version of the JSON file


def run(data: DataConfig, options: RunConfig, peer: PeerConfig) -> dict[str, Any]:
    """Run the selected measurements; print the tables, write the JSON file and the chart.

    Parameters
    ----------
    data
        Images to load.
    options
        Measurements to make.
    peer
        Peers and their interpreters.

    Returns
    -------
    dict
        Content of the JSON file.
    """
    description = machine.describe()
    epochs = options.measured_epochs()
    workers = allowed_cores() if options.workers == -1 else options.workers
    print_line(machine.as_text(description))
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
            measured = measure(
                workload, source, chosen, workers, epochs, options.timeout_s, print_progress
            )
            result["workloads"] = with_measured(result["workloads"], measured)
            print_line(f"\n{report.result_text(measured)}")
            save(result, options.out)
        print_steps(result)
        for name in options.extra_names():
            result[name], text = EXTRAS[name](sources["photos"], contestants, workers, options)
            print_line(f"\n{text}")
            save(result, options.out)
    print_line(f"\n{options.out}, {draw(result, Path(options.out).with_suffix('.png'))}")
    return result


def kept(options: RunConfig) -> dict[str, Any]:
    """Return the results of an earlier run if the options keep them."""
    path = Path(options.out)
    if not (options.keep and path.exists()):
        return {"workloads": []}
    result = json.loads(path.read_text(encoding="utf-8"))
    if result.get("format") != FORMAT:
        raise ConfigError(
            f"{path}: the file has format {result.get('format')}, expected {FORMAT}; "
            "choose another --out."
        )
    return result


def with_measured(
    workloads: Sequence[Mapping[str, Any]], measured: Mapping[str, Any]
) -> list[Mapping[str, Any]]:
    """Return the results with a new or replaced one, in the order of the workloads."""
    by_name = {each["name"]: each for each in [*workloads, measured]}
    return [by_name[name] for name in WORKLOADS if name in by_name]


def write_images(
    data: DataConfig, workloads: Sequence[Workload], extras: Sequence[str], folder: Path
) -> dict[str, images.Images]:
    """Write or open the images that the workloads need; return them by source."""
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
    """Return the contestants of a workload.

    For raw images the entries that differ only in the decoder are left out.
    """
    named = [entry for entry in contestants if workload.only is None or entry.key in workload.only]
    return [entry for entry in named if not (entry.needs_jpeg and source.is_raw)]


def _first_batch(
    source: images.Images, contestants: Sequence[Entry], workers: int, options: RunConfig
) -> tuple[Any, str]:
    """Measure the time to the first batch."""
    rows = extras.first_batch(
        source, contestants, workers, options.repeats, options.timeout_s, print_progress
    )
    return rows, report.as_text(report.first_batch_table(rows))


def _memory(
    source: images.Images, contestants: Sequence[Entry], workers: int, options: RunConfig
) -> tuple[Any, str]:
    """Measure resident memory."""
    measured = extras.memory(source, workers, options.epochs, options.timeout_s, print_progress)
    return measured, report.memory_text(measured)


def _scaling(
    source: images.Images, contestants: Sequence[Entry], workers: int, options: RunConfig
) -> tuple[Any, str]:
    """Measure the scaling with threads."""
    measured = extras.scaling(
        source, workers, options.measured_epochs(), options.timeout_s, print_progress
    )
    return measured, report.as_text(report.scaling_table(measured))


EXTRAS = {"first_batch": _first_batch, "memory": _memory, "scaling": _scaling}


def print_steps(result: Mapping[str, Any]) -> None:
    """Print the cost of every step of the chain, if it was measured."""
    if lines := report.steps_table(result["workloads"]):
        print_line(f"\n{report.as_text(lines)}")


def save(result: Mapping[str, Any], out: str) -> None:
    """Write the JSON file; called after every workload so that an aborted run keeps its results."""
    path = Path(out)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def print_line(text: str) -> None:
    """Print to standard output."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def print_progress(text: str) -> None:
    """Print progress to standard error."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
