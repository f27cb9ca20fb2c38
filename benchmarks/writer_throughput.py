"""Images per second of the writers of ffcv_ssl and FFCV, with the same JPEGs and processes.

    python benchmarks/writer_throughput.py --data=FOLDER --out=writer.json \\
        --ffcv-python=.venv-ffcv/bin/python

Every row runs in a process of its own (`contestants/writers.py`). The processes alternate, so that
noise affects all of them, and only ratios within a round count. The clock runs from the call to the
finished file. It includes the start and the end of worker processes (both packages fork), but no
imports.

In every round each writer writes a short file and one that is eight times as long. The rate is the
number of additional images divided by the additional time. The start is the remaining time of the
short file: the fixed cost of any file.

ffcv_ssl calls `fsync` before it returns, FFCV does not; the script syncs the disk between two
files. Without a folder the JPEGs are drawn. Without FFCV's Python (`make interop` installs it)
there are no FFCV rows.
"""

import argparse
import json
import os
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from PIL import Image

from ffcv_ssl.benchmarks import machine, report
from ffcv_ssl.benchmarks.entries import DECODER_VARIABLE, OURS, PEER, Entry
from ffcv_ssl.benchmarks.images import JPEG_QUALITY, MAX_RESOLUTION, DrawnPhotos, JpegFolder
from ffcv_ssl.benchmarks.rounds import FAILED, OK, ContestantRun
from ffcv_ssl.benchmarks.workloads import Epochs
from ffcv_ssl.codecs import native

JPEG = {"write_mode": "jpg", "jpeg_quality": JPEG_QUALITY}
SMALL = {"write_mode": "raw", "max_resolution": 256}
TIMEOUT_S = 600.0
SHORTER = 8  # ratio of the lengths of the two files


@dataclass(frozen=True)
class Way:
    """A way to write images.

    Parameters
    ----------
    title
        Label in the tables.
    ours, ffcv
        Arguments of the image field of ffcv_ssl and of FFCV.
    decodes
        Whether ffcv_ssl decodes, so that the decoder matters.
    goal
        Speed relative to FFCV to reach, or None.
    """

    title: str
    ours: dict[str, Any]
    ffcv: dict[str, Any]
    decodes: bool
    goal: float | None = None


CODED = JPEG | {"max_resolution": MAX_RESOLUTION}
WAYS = {
    "encode": Way(
        f"decoded, longest side {MAX_RESOLUTION}, encoded q{JPEG_QUALITY}",
        CODED | {"reencode": "always"},
        CODED,
        True,
        1.8,
    ),
    "keep": Way(
        'kept, check="header"; FFCV decodes and encodes',
        JPEG | {"check": "header"},
        JPEG,
        False,
        8.0,
    ),
    "check": Way(
        'kept, check="decode"; FFCV decodes and encodes', JPEG | {"check": "decode"}, JPEG, True
    ),
    "raw": Way("decoded, longest side 256, raw", SMALL, SMALL, True),
}


def main() -> None:
    """Measure the selected ways, print their tables and write the JSON file."""
    options = parse_arguments()
    with tempfile.TemporaryDirectory(dir=options.folder) as scratch, ExitStack() as resources:
        paths = list(map(str, jpeg_files(options.data, options.images, Path(scratch))))
        results = []
        for name in options.ways:
            result = measure(name, paths, options, Path(scratch), resources)
            results.append(result)
            print(result_text(result), end="\n\n", flush=True)
    if options.out:
        options.out.write_text(
            json.dumps({"machine": machine.describe(), "results": results}, indent=1) + "\n"
        )


def parse_arguments() -> argparse.Namespace:
    """Parse the command line and print the machine."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, help="folder of JPEGs (default: drawn images)")
    parser.add_argument(
        "--images", type=int, default=512, help="maximum number of JPEG files (default: 512)"
    )
    parser.add_argument(
        "--epoch",
        type=int,
        default=4000,
        help="minimum number of images per file; each JPEG appears equally often (default: 4000)",
    )
    parser.add_argument(
        "--ways", nargs="+", choices=WAYS, default=list(WAYS), help="ways to measure (default: all)"
    )
    parser.add_argument(
        "--repeats", type=int, default=5, help="files written in each way (default: 5)"
    )
    parser.add_argument(
        "--workers",
        type=int,
        default=machine.describe()["cores"],
        help="worker processes (default: number of cores)",
    )
    parser.add_argument(
        "--ffcv-python", "--peer.ffcv.python", dest="ffcv_python", help="Python with FFCV"
    )
    parser.add_argument(
        "--folder", type=Path, help="output folder (default: the folder for temporary files)"
    )
    parser.add_argument("--out", type=Path, help="JSON file for all times")
    options = parser.parse_args()
    print(machine.as_text(machine.describe()), end="\n\n")
    return options


def measure(
    name: str, paths: list[str], options: argparse.Namespace, scratch: Path, resources: ExitStack
) -> dict[str, Any]:
    """Measure all writers: both files as a warm-up, then `repeats` times, alternating.

    The result is JSON-serializable.
    """
    way = WAYS[name]
    long = Epochs(options.repeats, options.epoch).num_images(len(paths))
    short = max(1, long // SHORTER)
    runs = []
    for entry in writers(way, options.ffcv_python):
        job = {
            "paths": paths,
            "workers": options.workers,
            "target": str(scratch / f"{entry.key}.beton"),
        }
        job |= {"options": way.ffcv if entry.kind == PEER else way.ours, "epoch_s": TIMEOUT_S}
        both = [WriterRun(entry, job | {"num_images": count}) for count in (short, long)]
        for run in both:
            resources.callback(run.close)
        runs.append(both)
    for _ in range(options.repeats):
        for both in runs:
            for run in both:
                run.epoch()
    for run in chain(*runs):
        run.close()
    rows = [compared(*(run.row for run in both)) for both in runs]
    return {"name": name, "images": long, "short": short, "files": len(paths), "rows": rows}


def compared(short: dict[str, Any], long: dict[str, Any]) -> dict[str, Any]:
    """Return the row of the long file, with the start computed from the times of the short file.

    `file_s` keeps the times of both files.
    """
    if short["status"] != OK or long["status"] != OK:
        return long if long["status"] != OK else short
    images = [more - less for more, less in zip(long["images"], short["images"], strict=True)]
    seconds = [more - less for more, less in zip(long["seconds"], short["seconds"], strict=True)]
    if min(seconds) <= 0:
        reason = "the long file took no more time than the short one; raise --epoch"
        return long | {
            "status": FAILED,
            "reason": reason,
            "seconds": [],
            "images": [],
            "start_s": [],
        }
    starts = [
        whole - count * s / n
        for whole, count, s, n in zip(
            short["seconds"], short["images"], seconds, images, strict=True
        )
    ]
    file_s = {"short": short["seconds"], "long": long["seconds"]}
    return long | {"seconds": seconds, "images": images, "start_s": starts, "file_s": file_s}


def writers(way: Way, ffcv_python: str | None) -> list[Entry]:
    """Return the writers: FFCV if its Python is given, and ffcv_ssl.

    Where the decoder matters, ffcv_ssl has a second entry with the native decoder.
    """
    decoders = {"ours_pip": ("ffcv_ssl", "simplejpeg")}
    if way.decodes and native.decode_address():
        decoders["ours_native"] = ("ffcv_ssl, native", "native")
    program = "writers.py"
    entries = [
        Entry(key, name, OURS, (program, "--flavor=ours"), None, {DECODER_VARIABLE: decoder})
        for key, (name, decoder) in decoders.items()
    ]
    return (
        [Entry("ffcv", "FFCV", PEER, (program, "--flavor=ffcv"), ffcv_python), *entries]
        if ffcv_python
        else entries
    )


class WriterRun(ContestantRun):
    """One writer. After each file it removes the file and syncs the disk."""

    def __init__(self, entry: Entry, job: dict[str, Any]):
        super().__init__(entry, job["workers"], TIMEOUT_S)
        self.target = Path(job["target"])
        self._process = entry.start()
        self.row |= self.ask({"do": "prepare", "job": job})
        self._clear()

    def epoch(self) -> None:
        """Write one file and record its numbers."""
        super().epoch()
        self._clear()

    def _clear(self) -> None:
        """Record the size of the file, remove it and sync the disk."""
        if self.target.exists():
            self.row["size_bytes"] = self.target.stat().st_size
            self.target.unlink()
        os.sync()


def result_text(result: dict[str, Any]) -> str:
    """Return the table of one way: rates, spread, and speed relative to FFCV within each round."""
    way = WAYS[result["name"]]
    peer = report.row_of(result, "ffcv")
    has_start = any(row.get("start_s") for row in result["rows"])
    starts = ["start, ms"] if has_start else []
    lines = [
        [
            "",
            "images/s",
            "slowest - fastest",
            "MB/s",
            *starts,
            "x FFCV",
            *(["goal"] if way.goal else []),
        ]
    ]
    for row in result["rows"]:
        if not row["seconds"]:
            lines.append([row["name"], row["reason"]])
            continue
        slowest, fastest = report.spread(row)
        megabytes = report.rate(row) * row["size_bytes"] / result["images"] / 1e6
        begun = [report.start(row)] if has_start else []
        ratio = f"{report.ratio(row, peer):.2f}" if peer else ""
        goal = [f"{way.goal:g}" if way.goal and row["kind"] == OURS else ""]
        cells = [
            f"{report.rate(row):,.0f}",
            f"{slowest:,.0f} - {fastest:,.0f}",
            f"{megabytes:,.0f}",
        ]
        lines.append([row["name"], *cells, *begun, ratio, *goal])
    repeats = max(len(row["seconds"]) for row in result["rows"])
    epoch = f"as an epoch of {result['images']:,}; median of {repeats}"
    return f"{way.title}: {result['files']:,} JPEGs, {epoch}\n{report.as_text(lines)}"


def jpeg_files(data: Path | None, count: int, scratch: Path) -> list[Path]:
    """Return the JPEGs of a folder, or drawn ones of quality 90."""
    if data is not None:
        return JpegFolder(data, count).paths
    folder = scratch / "drawn"
    folder.mkdir()
    paths = [folder / f"{index:06}.jpg" for index in range(count)]
    for path, (image, _) in zip(paths, DrawnPhotos(count), strict=True):
        Image.fromarray(image).save(path, quality=JPEG_QUALITY)
    return paths


if __name__ == "__main__":
    main()
