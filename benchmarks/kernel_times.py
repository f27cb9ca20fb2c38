"""Cost of each step of the view kernel on one core.

    python benchmarks/kernel_times.py [--repeats=200]

The script prints medians over the repeats. The cost of a step is the time with the step minus the
time of crop and resize alone; the two measurements alternate.
"""

import argparse
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ffcv_ssl.benchmarks import machine
from ffcv_ssl.kernels import rows as col
from ffcv_ssl.kernels.cpu.scratch import make_scratch
from ffcv_ssl.kernels.cpu.view import render_views

IDENTITY = np.tile(np.arange(256, dtype=np.uint8), (3, 1))
ORDER = sum(step * 4**step for step in range(4))
SIGMA_2 = {col.RADIUS: 6, col.FALLOFF: np.exp(-1 / 8)}
CROP = "crop, resize"
GRAY = "+ grey"  # a key of the JSON files; `LABELS` has the spelling for tables
LABELS = {GRAY: "+ gray"}
STEPS: dict[str, Mapping[int, float]] = {
    CROP: {},
    "+ brightness": {col.BRIGHTNESS: 1.2},
    "+ contrast": {col.CONTRAST: 0.7},
    "+ saturation": {col.SATURATION: 1.3},
    "+ hue": {col.HUE: 0.1},
    "+ all four": {col.BRIGHTNESS: 1.2, col.CONTRAST: 0.7, col.SATURATION: 1.3, col.HUE: 0.1},
    GRAY: {col.GRAY: 1},
    "+ blur, sigma 2": SIGMA_2,
}


def milliseconds(
    box: tuple[int, int], size: tuple[int, int], num_views: int, repeats: int
) -> dict[str, float]:
    """Return the median milliseconds of one view for every step.

    The view is a crop of `box` resized to `size`, both (height, width).
    """
    height, width = box
    image = np.random.default_rng(0).integers(0, 256, (1, height, 3 * width), dtype=np.uint8)
    out = np.empty((1, num_views, 3, *size), np.uint8)
    scratch = make_scratch(box, [size])
    rows = {}
    for name, values in STEPS.items():
        row = col.NEUTRAL.copy()
        row[[col.HEIGHT, col.WIDTH, col.ORDER]] = height, width, ORDER
        for column, value in values.items():
            row[column] = value
        rows[name] = np.tile(row, (1, num_views, 1))
    times: dict[str, list[float]] = {name: [] for name in rows}
    for _ in range(repeats + 1):  # the first round compiles or loads the kernel
        for name, table in rows.items():
            started = time.perf_counter()
            render_views(image, table, IDENTITY, scratch, False, out)
            times[name].append(1e3 * (time.perf_counter() - started) / num_views)
    return {name: float(np.median(values[1:])) for name, values in times.items()}


def main() -> None:
    """Print one table; with `--out` also write its numbers."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--repeats",
        type=int,
        default=200,
        help="rounds; each measures every step once (default: 200)",
    )
    parser.add_argument("--out", type=Path, help="JSON file for the medians")
    options = parser.parse_args()
    result = {
        "machine": machine.describe(),
        "repeats": options.repeats,
        "large": milliseconds((275, 275), (224, 224), 1, options.repeats),
        "small": milliseconds((16, 16), (32, 32), 20, options.repeats),
    }
    print(f"{machine.as_text(result['machine'])}\n\n{table_text(result)}")
    if options.out:
        options.out.write_text(json.dumps(result, indent=1) + "\n")


def table_text(result: Mapping[str, Any]) -> str:
    """Return the table: crop and resize, then the time that each step adds."""
    lines = [f"{'one view, one core':20}{'275 -> 224':>14}{'16 -> 32':>14}"]
    for name in STEPS:
        large, small = (added(result[size], name) for size in ("large", "small"))
        lines.append(f"{LABELS.get(name, name):20}{large:11.3f} ms{1e3 * small:11.1f} us")
    return "\n".join(lines)


def added(times: Mapping[str, float], name: str) -> float:
    """Return the milliseconds that a step adds to crop and resize, or those of crop and resize."""
    return times[name] - (0 if name == CROP else times[CROP])


if __name__ == "__main__":
    main()
