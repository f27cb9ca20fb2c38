"""Hours of epochs in one process: `python -m tests.stress.soak --help`.

The test creates loaders, stops them early, breaks, copies and drops them. It monitors memory, file
descriptors and threads, and renders a reference epoch repeatedly. The exit status is 1 if the
checksum of this epoch changes, if descriptors or threads leak, or if memory grows.
"""

from __future__ import annotations

import argparse
import gc
import json
import logging
import os
import sys
import tempfile
import threading
import time
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from tests.stress.rounds import Soak

WARM_UP = 0.25  # fraction of the memory samples in which allocators and caches fill
MAX_GROWTH = 4.0  # MiB after the warm-up by the slope: 3 MiB per hour in a two-hour run


@dataclass(frozen=True)
class Moment:
    """Measurements between two rounds; `checksum` is that of the reference epoch."""

    seconds: float
    rounds: int
    resident_mib: float
    descriptors: int
    threads: int
    checksum: int


def look(soak: Soak, started: float) -> Moment:
    """Measure the resources of the process while no loader is in use."""
    seen = soak.reference()
    gc.collect()
    resident = (
        int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
    )
    descriptors = len(os.listdir("/proc/self/fd"))
    seconds = round(time.monotonic() - started, 1)
    return Moment(
        seconds,
        soak.rounds.total(),
        round(resident, 2),
        descriptors,
        threading.active_count(),
        seen,
    )


def slope(moments: list[Moment]) -> tuple[float, float]:
    """Return the growth of resident memory after the warm-up: MiB per hour, and MiB in total.

    The slope is the Theil-Sen estimator, which single large batches do not affect.
    """
    later = moments[int(WARM_UP * len(moments)) :]
    pairs = [
        (b.resident_mib - a.resident_mib) / (b.seconds - a.seconds)
        for i, a in enumerate(later)
        for b in later[i + 1 :]
        if b.seconds > a.seconds
    ]
    per_second = float(np.median(pairs)) if pairs else 0.0
    return 3600 * per_second, per_second * (later[-1].seconds - later[0].seconds)


def problems(moments: list[Moment]) -> list[str]:
    """Return the resources that were not constant."""
    first, found = moments[0], []
    for name in ("descriptors", "threads", "checksum"):
        values = [getattr(moment, name) for moment in moments]
        if any(value != getattr(first, name) for value in values):
            found.append(f"{name} changed: {sorted(set(values))}")
    return found


def main(argv: list[str] | None = None) -> int:
    """Run the soak test, print a table, write JSON; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="soak", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=120)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--json", default="build/soak.json", help="JSON file for measurements and counts"
    )
    options = parser.parse_args(argv)
    logging.getLogger("ffcv_ssl").setLevel(logging.CRITICAL)  # each damaged sample logs a line
    warnings.simplefilter("error")
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        soak, started = Soak(Path(folder), options.seed), time.monotonic()
        soak.reference()
        moments = [look(soak, started)]
        end, every = started + 60 * options.minutes, max(0.2, 60 * options.minutes / 240)
        while time.monotonic() < end:
            until = min(time.monotonic() + every, end)
            while time.monotonic() < until:
                soak.round()
            moments.append(look(soak, started))
    found, (an_hour, growth) = problems(moments), slope(moments)
    if growth > MAX_GROWTH:
        found.append(f"memory grew by {growth:.2f} MiB")
    print_table(soak, moments)
    print(
        f"memory after the warm-up: {an_hour:+.2f} MiB per hour, {growth:+.2f} MiB "
        f"(bound {MAX_GROWTH})"
    )
    print("; ".join(found) or "all constant")
    report = {
        "mib_an_hour": an_hour,
        "mib": growth,
        "bound_mib": MAX_GROWTH,
        "problems": found,
        "rounds": soak.rounds,
    }
    Path(options.json).parent.mkdir(parents=True, exist_ok=True)
    Path(options.json).write_text(
        json.dumps({**report, "moments": [asdict(moment) for moment in moments]}, indent=1)
    )
    return 1 if found else 0


def print_table(soak: Soak, moments: list[Moment]) -> None:
    """Print evenly spaced measurements, and the rounds by kind."""
    print(f"{'minutes':>8}{'rounds':>10}{'MiB':>9}{'descriptors':>13}{'threads':>9}  checksum")
    for index in sorted({round(i * (len(moments) - 1) / 12) for i in range(13)}):
        each = moments[index]
        numbers = f"{each.seconds / 60:8.1f}{each.rounds:10,}{each.resident_mib:9.1f}"
        numbers += f"{each.descriptors:13}{each.threads:9}"
        print(f"{numbers}  {each.checksum:08x}")
    print(", ".join(f"{name} {count:,}" for name, count in sorted(soak.rounds.items())))


if __name__ == "__main__":
    sys.exit(main())
