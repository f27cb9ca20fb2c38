"""Hours of epochs in one process: `python -m tests.stress.soak --help`.

Loaders are made, left early, broken, copied and dropped, while memory, file descriptors and threads
are watched and a reference epoch is rendered again and again. Exit status 1 if its checksum ever
changes, descriptors or threads are not given back, or memory grows.
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

WARM_UP = 0.25  # of the samples of memory: allocators and caches fill
MOST_GROWTH = 4.0  # MiB after the warm-up, by the slope: some 3 MiB an hour in a run of two hours


@dataclass(frozen=True)
class Moment:
    """What was seen between two rounds; `checksum` is that of the reference epoch."""

    seconds: float
    rounds: int
    resident_mib: float
    descriptors: int
    threads: int
    checksum: int


def look(soak: Soak, started: float) -> Moment:
    """See what the process holds when no loader is in use."""
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
    """MiB an hour by which resident memory grows after the warm-up, and MiB in all that time.

    The median over all pairs of moments (Theil and Sen): one large batch does not move it.
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
    """What was not constant."""
    first, found = moments[0], []
    for name in ("descriptors", "threads", "checksum"):
        values = [getattr(moment, name) for moment in moments]
        if any(value != getattr(first, name) for value in values):
            found.append(f"{name} changed: {sorted(set(values))}")
    return found


def main(argv: list[str] | None = None) -> int:
    """Soak, print a table, write JSON; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="soak", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=120)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--json", default="build/soak.json", help="where moments and counts are written"
    )
    options = parser.parse_args(argv)
    logging.getLogger("ffcv_ssl").setLevel(logging.CRITICAL)  # each damaged sample is a line
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
    if growth > MOST_GROWTH:
        found.append(f"memory grew by {growth:.2f} MiB")
    print_table(soak, moments)
    print(
        f"memory after the warm-up: {an_hour:+.2f} MiB an hour, {growth:+.2f} MiB (bound {MOST_GROWTH})"
    )
    print("; ".join(found) or "all constant")
    report = {
        "mib_an_hour": an_hour,
        "mib": growth,
        "bound_mib": MOST_GROWTH,
        "problems": found,
        "rounds": soak.rounds,
    }
    Path(options.json).parent.mkdir(parents=True, exist_ok=True)
    Path(options.json).write_text(
        json.dumps({**report, "moments": [asdict(moment) for moment in moments]}, indent=1)
    )
    return 1 if found else 0


def print_table(soak: Soak, moments: list[Moment]) -> None:
    """Some moments, evenly spread, and the rounds by kind."""
    print(f"{'minutes':>8}{'rounds':>10}{'MiB':>9}{'descriptors':>13}{'threads':>9}  checksum")
    for index in sorted({round(i * (len(moments) - 1) / 12) for i in range(13)}):
        each = moments[index]
        numbers = f"{each.seconds / 60:8.1f}{each.rounds:10,}{each.resident_mib:9.1f}{each.descriptors:13}{each.threads:9}"
        print(f"{numbers}  {each.checksum:08x}")
    print(", ".join(f"{name} {count:,}" for name, count in sorted(soak.rounds.items())))


if __name__ == "__main__":
    sys.exit(main())
