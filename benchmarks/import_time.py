"""What an import costs, in fresh processes: `ffcv_ssl` on top of torch, and its doors from nothing.

python benchmarks/import_time.py [--repeats=7]
"""

import argparse
import json
import statistics
import subprocess
import sys

from ffcv_ssl.benchmarks import machine

HEAVY = ("torch", "numba", "cv2", "matplotlib", "tensorboard")
CASES = {  # name: (imported before the clock starts, timed)
    "torch": ("", "torch"),
    "ffcv_ssl, after torch": ("torch", "ffcv_ssl"),
    "ffcv_ssl.loader, after torch": ("torch", "ffcv_ssl.loader"),
    "ffcv_ssl.writer": ("", "ffcv_ssl.writer"),
    "ffcv_ssl.reader": ("", "ffcv_ssl.reader"),
    "ffcv_ssl.fields": ("", "ffcv_ssl.fields"),
    "ffcv_ssl.cli.main": ("", "ffcv_ssl.cli.main"),
}
PROGRAM = """
import importlib, json, sys, time
before, timed, heavy = json.loads(sys.argv[1])
if before:
    importlib.import_module(before)
began = time.perf_counter()
importlib.import_module(timed)
print(json.dumps([time.perf_counter() - began, [name for name in heavy if name in sys.modules]]))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--repeats", type=int, default=7, help="fresh processes for each import (default 7)"
    )
    repeats = parser.parse_args().repeats
    print(machine.as_text(machine.describe()), end="\n\n")
    print(f"{'import':<32}{'median s':>10}{'[min - max]':^18}  heavy modules loaded")
    for name, (before, timed) in CASES.items():
        runs = [import_once(before, timed) for _ in range(repeats + 1)][
            1:
        ]  # the first one fills the disk cache
        seconds = [run[0] for run in runs]
        spread = f"[{min(seconds):.3f} - {max(seconds):.3f}]"
        print(
            f"{name:<32}{statistics.median(seconds):>10.3f}{spread:^18}  {', '.join(runs[0][1]) or 'none'}"
        )


def import_once(before: str, timed: str) -> tuple[float, list[str]]:
    """Return the seconds that one import took in a process of its own, and the heavy modules that were loaded then."""
    command = [sys.executable, "-c", PROGRAM, json.dumps([before, timed, HEAVY])]
    seconds, loaded = json.loads(
        subprocess.run(command, capture_output=True, text=True, check=True).stdout
    )
    return seconds, loaded


if __name__ == "__main__":
    main()
