"""Cost of comparing every stored value with its checksum.

    python benchmarks/check_cost.py --photos=FOLDER [--rounds=15]

Epochs with and without the comparison alternate. The script prints, per workload, images per second
with `check="none"` and `check="read"`, and the median over the rounds of the ratio of two
neighboring epochs. Changes of the machine's clock and other load cancel in that ratio.
"""

import argparse
import itertools
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from ffcv_ssl import views
from ffcv_ssl.benchmarks.machine import as_text, describe
from ffcv_ssl.codecs.decode import decoder_name
from ffcv_ssl.fields import IntField, RGBImageField
from ffcv_ssl.loader import Loader
from ffcv_ssl.system.cores import allowed_cores
from ffcv_ssl.writer import DatasetWriter

NUM_PATCH_IMAGES = 4_000
PHOTO_EPOCH = 630  # images per epoch: a third of a second on two cores


def main() -> None:
    """Measure both workloads and print one line for each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--photos", required=True, help="folder of JPEGs")
    parser.add_argument(
        "--rounds", type=int, default=15, help="timed pairs of epochs (default: 15)"
    )
    parser.add_argument("--out", help="JSON file for the results")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        photos, patches = write_photos(arguments.photos, folder), write_patches(folder)
        rows = [
            measure(
                "two SimCLR views of 224, photos", photos, views.simclr(224), 64, arguments.rounds
            ),
            measure(
                "20 patches 16→32, 32 x 32 raw",
                patches,
                views.emp_ssl(n=20),
                100,
                arguments.rounds,
            ),
        ]
    machine = describe()
    for row in rows:
        print(
            f"{row['workload']:34} {row['none']:9,.0f} {row['read']:9,.0f} images/s"
            f"  cost {100 * row['cost']:5.2f} %"
        )
    print(
        f"{as_text(machine)}\n"
        f"decoder {decoder_name()}, {allowed_cores()} threads, {arguments.rounds} rounds"
    )
    if arguments.out:
        Path(arguments.out).write_text(
            json.dumps({"machine": machine, "decoder": decoder_name(), "rows": rows}, indent=1)
        )


def write_photos(folder: str, out: str) -> str:
    """Write the photos as the main benchmark does: longest side 500, quality 90."""
    paths = sorted(
        path for path in Path(folder).rglob("*") if path.suffix.lower() in (".jpg", ".jpeg")
    )
    samples = [(str(path), 0) for path in itertools.islice(itertools.cycle(paths), PHOTO_EPOCH)]
    fields = {"image": RGBImageField("jpg", max_resolution=500), "label": IntField()}
    DatasetWriter(f"{out}/photos.beton", fields, progress=False).from_indexed_dataset(samples)
    return f"{out}/photos.beton"


def write_patches(out: str) -> str:
    """Write 32x32 images, stored raw."""
    images = np.random.default_rng(0).integers(0, 256, (NUM_PATCH_IMAGES, 32, 32, 3), np.uint8)
    fields = {"image": RGBImageField("raw")}
    DatasetWriter(f"{out}/patches.beton", fields, progress=False).from_indexed_dataset(
        [(image,) for image in images]
    )
    return f"{out}/patches.beton"


def measure(
    workload: str, path: str, pipeline: list[Any], batch_size: int, rounds: int
) -> dict[str, Any]:
    """Time alternating epochs with and without checks; the first pair is a warm-up."""
    seconds: dict[str, list[float]] = {"none": [], "read": []}
    with (
        Loader(path, batch_size, seed=0, pipelines={"image": pipeline}, check="none") as none,
        Loader(path, batch_size, seed=0, pipelines={"image": pipeline}, check="read") as read,
    ):
        loaders = {"none": none, "read": read}
        for round_number in range(rounds + 1):
            for check in ("none", "read") if round_number % 2 else ("read", "none"):
                started = time.perf_counter()
                for _ in loaders[check]:
                    pass
                seconds[check].append(time.perf_counter() - started)
        num_images = len(none) * batch_size
    ratios = [b / a for a, b in zip(seconds["none"][1:], seconds["read"][1:], strict=True)]
    rates = {check: num_images / statistics.median(times[1:]) for check, times in seconds.items()}
    return {"workload": workload, **rates, "cost": statistics.median(ratios) - 1, "ratios": ratios}


if __name__ == "__main__":
    main()
