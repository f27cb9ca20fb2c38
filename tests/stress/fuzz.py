"""Fuzz the readers of .beton files and the JPEG decoders: `python -m tests.stress.fuzz --help`.

Every file is generated from its seed, so that `--seed=K --count=1` reproduces a finding. Findings
are signals, hangs, errors of foreign types, memory above the bound, undetected damage in a file
with checksums, and regions of a JPEG that differ from the full decode. The exit status is 1 if
there are findings.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import logging
import os
import re
import sys
import tempfile
import time
import warnings
from collections import Counter
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from ffcv_ssl.system.cores import allowed_cores
from tests.stress import sanitize

MAX_PIXELS = 1 << 20  # value of `FFCV_SSL_MAX_PIXELS` during the fuzz
BOUND = 128 << 20  # bytes of address space beyond a fresh process; files: 4 MiB, images: <= 3
NO_BOUND = 1 << 40  # the sanitizers need additional memory
M_ARENA_MAX = -8  # from malloc.h
HANG_S = 60.0
PARTS = ("files", "jpegs", "sanitized")
SHOWN = 40  # findings to print; the JSON file has all of them


def main(argv: list[str] | None = None) -> int:
    """Run the fuzz, print tables, write JSON; return the exit status."""
    options = parse(argv)
    prepare_process()
    outcome = {}
    if options.inside_sanitizer:
        print(json.dumps(run_part("jpegs", options, only=("native",))))
        return 0
    for part in options.part:
        outcome[part] = (
            sanitize.run(options.seed, options.count, options.jobs)
            if part == "sanitized"
            else run_part(part, options)
        )
        print_part(part, outcome[part])
    Path(options.json).parent.mkdir(parents=True, exist_ok=True)
    Path(options.json).write_text(json.dumps(outcome, indent=1))
    num_faults = sum(len(part["findings"]) for part in outcome.values())
    print(f"{num_faults} findings; details: {options.json}")
    return 1 if num_faults else 0


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="fuzz", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--part",
        nargs="+",
        choices=PARTS,
        default=PARTS,
        help="mutated files, JPEGs alone, JPEGs under the sanitizers (default: all)",
    )
    parser.add_argument("--count", type=int, default=20_000, help="files per part (default: 20000)")
    parser.add_argument("--seed", type=int, default=0, help="first seed (default: 0)")
    parser.add_argument(
        "--jobs", type=int, default=allowed_cores(), help="processes (default: number of cores)"
    )
    parser.add_argument(
        "--json", default="build/fuzz.json", help="JSON file for counts and findings"
    )
    parser.add_argument("--inside-sanitizer", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def prepare_process() -> None:
    """Turn numeric warnings into errors, and silence the package's own messages."""
    os.environ["FFCV_SSL_MAX_PIXELS"] = str(MAX_PIXELS)
    with suppress(AttributeError, OSError):  # glibc; otherwise each thread reserves 128 MiB
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, 1)
    warnings.simplefilter("ignore")
    warnings.simplefilter(
        "error", RuntimeWarning
    )  # from NumPy, if a malformed number was not checked
    logging.getLogger("ffcv_ssl").setLevel(logging.CRITICAL)


def run_part(part: str, options: argparse.Namespace, only: tuple[str, ...] | None = None) -> dict:
    """Run one part; return its counts and findings, JSON-serializable."""
    from tests.stress.pool import Pool
    from tests.stress.subjects import FileSubject, JpegSubject

    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(
        dir=memory if os.access(memory, os.W_OK) else None, prefix="fuzz-"
    ) as name:
        folder, started = Path(name), time.monotonic()
        subject = FileSubject(folder) if part == "files" else JpegSubject(MAX_PIXELS, only)
        pool = Pool(
            subject.run,
            subject.name,
            subject.kinds,
            subject.columns,
            folder,
            HANG_S,
            NO_BOUND if options.inside_sanitizer else BOUND,
        )
        pool.go(options.seed, options.count, options.jobs)
        counts = {
            kind: dict(zip(subject.columns, row, strict=True))
            for kind, row in zip(subject.kinds, pool.counts.tolist(), strict=True)
        }
        return {
            "seed": options.seed,
            "count": options.count,
            "seconds": round(time.monotonic() - started, 1),
            "most_memory_mib": pool.largest >> 20,
            "bound_mib": None if options.inside_sanitizer else BOUND >> 20,
            "counts": counts,
            "findings": [asdict(finding) for finding in pool.findings],
        }


def print_part(part: str, outcome: dict) -> None:
    """Print the table of a part and its findings, grouped."""
    columns = [
        name
        for name in next(iter(outcome["counts"].values()))
        if any(row[name] for row in outcome["counts"].values())
    ]
    width = max(len(kind) for kind in outcome["counts"])
    lines = [
        f"{kind:{width}}" + "".join(f"{row[name]:>{max(len(name), 6) + 2},}" for name in columns)
        for kind, row in rows(outcome)
    ]
    speed = outcome["count"] / max(outcome["seconds"], 1e-9)
    print(
        f"\n{part}: {outcome['count']:,} from seed {outcome['seed']}, {outcome['seconds']:,.0f} s, "
        f"{speed:,.0f} per second;",
        end=" ",
    )
    bound = f"bound {outcome['bound_mib']} MiB" if outcome["bound_mib"] else "no bound"
    print(f"at most {outcome['most_memory_mib']} MiB of memory each ({bound})")
    print(" " * width + "".join(f"{name:>{max(len(name), 6) + 2}}" for name in columns))
    print("\n".join(lines))
    examples: dict[tuple[str, str], dict] = {}
    numbers = Counter(key for key in map(similar, outcome["findings"]))
    for finding in outcome["findings"]:
        examples.setdefault(similar(finding), finding)
    for key, number in numbers.most_common(SHOWN):
        each = examples[key]
        print(f"  {number} x {each['fault']}: {each['text'][:1500].strip()}")
        print(f"      {each['made'][:200]}  (--part={part} --seed={each['seed']} --count=1)")


def similar(finding: dict) -> tuple[str, str]:
    """Return a grouping key of a finding: the fault, and its first line without numbers."""
    return finding["fault"], re.sub(r"[0-9a-f]*[0-9][0-9a-f]*", "#", finding["text"].split("\n")[0])


def rows(outcome: dict) -> list[tuple[str, dict[str, int]]]:
    """Return the rows of the table and their sum."""
    counts = outcome["counts"]
    total = {
        name: sum(row[name] for row in counts.values()) for name in next(iter(counts.values()))
    }
    return [*counts.items(), ("all", total)]


if __name__ == "__main__":
    sys.exit(main())
