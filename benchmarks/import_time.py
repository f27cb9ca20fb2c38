"""Import times in fresh processes: `ffcv_ssl` after torch, and its public modules alone.

python benchmarks/import_time.py [--repeats=7]
"""

import argparse
import json
import statistics
import subprocess
import sys

from ffcv_ssl.benchmarks import machine

HEAVY = ("torch", "numba", "cv2", "matplotlib", "tensorboard")
CASES = {  # label: (module imported before the clock starts, timed module)
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
    """Measure every case and print one line for each."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--repeats", type=int, default=7, help="fresh processes per import (default: 7)"
    )
    repeats = parser.parse_args().repeats
    print(machine.as_text(machine.describe()), end="\n\n")
    print(f"{'import':<32}{'median s':>10}{'[min - max]':^18}  heavy modules loaded")
    for name, (before, timed) in CASES.items():
        runs = [import_once(before, timed) for _ in range(repeats + 1)][
            1:
        ]  # the first run fills the disk cache
        seconds = [run[0] for run in runs]
        spread = f"[{min(seconds):.3f} - {max(seconds):.3f}]"
        print(
            f"{name:<32}{statistics.median(seconds):>10.3f}{spread:^18}"
            f"  {', '.join(runs[0][1]) or 'none'}"
        )


def import_once(before: str, timed: str) -> tuple[float, list[str]]:
    """Time one import in a fresh process; return its seconds and the heavy modules it loaded."""
    command = [sys.executable, "-c", PROGRAM, json.dumps([before, timed, HEAVY])]
    seconds, loaded = json.loads(
        subprocess.run(command, capture_output=True, text=True, check=True).stdout
    )
    return seconds, loaded


if __name__ == "__main__":
    main()
