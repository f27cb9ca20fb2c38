"""Images per second through the writer: JPEG files kept, decoded and re-encoded, stored raw.

    python benchmarks/writer_throughput.py [--data=FOLDER] [--repeats=3]

Without a folder the JPEG files are drawn. The ways take turns; only ratios within one run count.
"""

import argparse
import statistics
import tempfile
from pathlib import Path

import machine
from PIL import Image
from workloads import DrawnPhotos, JpegFolder, write

from ffcv_ssl.fields import RGBImageField

WAYS = {
    "kept, headers checked": {"write_mode": "jpg", "check": "header"},
    "kept, each decoded once": {"write_mode": "jpg"},
    "decoded and encoded again, q90": {"write_mode": "jpg", "reencode": "always"},
    "longest side 256, q90": {"write_mode": "jpg", "max_resolution": 256},
    "raw, longest side 256": {"write_mode": "raw", "max_resolution": 256},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, help="folder of JPEGs (default: drawn images)")
    parser.add_argument("--images", type=int, default=512, help="images, at most (default 512)")
    parser.add_argument("--repeats", type=int, default=3, help="files written in each way (default 3)")
    options = parser.parse_args()
    print(machine.as_text(machine.describe()), end="\n\n")
    with tempfile.TemporaryDirectory() as scratch:
        dataset = JpegFolder(options.data or draw_files(Path(scratch) / "drawn", options.images), options.images)
        seconds: dict[str, list[float]] = {name: [] for name in WAYS}
        path = Path(scratch) / "written.beton"
        write(path, RGBImageField(write_mode="jpg"), dataset)  # warm-up: the files get into the page cache
        for _ in range(options.repeats):
            for name, arguments in WAYS.items():
                seconds[name].append(write(path, RGBImageField(**arguments), dataset))
    print(f"{len(dataset):,} JPEG files, {'given' if options.data else 'drawn'}; median of {options.repeats} [slowest - fastest]")
    print(f"{'':<34}{'images/s':>10}{'':^22}")
    for name, times in seconds.items():
        slowest, fastest = (len(dataset) / extreme(times) for extreme in (max, min))
        print(f"{name:<34}{len(dataset) / statistics.median(times):>10,.0f}{f'[{slowest:,.0f} - {fastest:,.0f}]':^22}")


def draw_files(folder: Path, count: int) -> Path:
    """Draw JPEG files of quality 90 into a new folder."""
    folder.mkdir()
    for index, (image, _) in enumerate(DrawnPhotos(count)):
        Image.fromarray(image).save(folder / f"{index:06}.jpg", quality=90)
    return folder


if __name__ == "__main__":
    main()
