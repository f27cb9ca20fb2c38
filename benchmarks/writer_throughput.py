"""Images per second through the writers: ours and FFCV's, on the same JPEG files, with the same number of processes.

    python benchmarks/writer_throughput.py --data=FOLDER --ffcv-python=.venv-ffcv/bin/python --out=writer.json

Every row is a process of its own (`contestants/writers.py`); they take turns, so that noise meets all of them, and only ratios within a
round count. What is timed is what a user waits for, from the call to the finished file: worker processes are started (both packages
fork) and joined; imports are not. In every round each writes a short file and one eight times as long.
The rate is that of the images which the long one has more, in the time which it takes longer; the start
is what is left of the short one's time: what any file costs, however few its images are.
Ours is on the disk when it is done (`fsync`), FFCV's is not; between turns everything is brought to the disk. Without a folder the
JPEGs are drawn; without FFCV's Python (`make interop` makes it) its rows are missing.
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
from ffcv_ssl.benchmarks.entries import DECODER, OURS, PEER, Entry
from ffcv_ssl.benchmarks.images import JPEG_QUALITY, MAX_RESOLUTION, DrawnPhotos, JpegFolder
from ffcv_ssl.benchmarks.rounds import FAILED, OK, Turns
from ffcv_ssl.benchmarks.workloads import Epochs
from ffcv_ssl.codecs import native

JPEG = {"write_mode": "jpg", "jpeg_quality": JPEG_QUALITY}
SMALL = {"write_mode": "raw", "max_resolution": 256}
TIMEOUT_S = 600.0
SHORTER = 8  # times: the file that tells the start apart


@dataclass(frozen=True)
class Way:
    """A way to write: arguments of our image field and of FFCV's, and the ratio to FFCV's that is aimed at (None: no aim)."""

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
    """Read the command line and print the machine."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, help="folder of JPEGs (default: drawn images)")
    parser.add_argument("--images", type=int, default=512, help="JPEG files, at most (default 512)")
    parser.add_argument(
        "--epoch",
        type=int,
        default=4000,
        help="images per file, at least: the JPEGs, each equally often (default 4000)",
    )
    parser.add_argument(
        "--ways", nargs="+", choices=WAYS, default=list(WAYS), help="what to measure (default: all)"
    )
    parser.add_argument(
        "--repeats", type=int, default=5, help="files written in each way (default 5)"
    )
    parser.add_argument(
        "--workers",
        type=int,
        default=machine.describe()["cores"],
        help="processes (default: as many as cores)",
    )
    parser.add_argument(
        "--ffcv-python", "--peer.ffcv.python", dest="ffcv_python", help="a Python that has FFCV"
    )
    parser.add_argument(
        "--folder", type=Path, help="where to write (default: the folder for temporary files)"
    )
    parser.add_argument("--out", type=Path, help="JSON with every time")
    options = parser.parse_args()
    print(machine.as_text(machine.describe()), end="\n\n")
    return options


def measure(
    name: str, paths: list[str], options: argparse.Namespace, scratch: Path, resources: ExitStack
) -> dict[str, Any]:
    """Let every writer write both files as warm-up and then, in turn, `repeats` times; the result is fit for JSON."""
    way = WAYS[name]
    long = Epochs(options.repeats, options.epoch).num_images(len(paths))
    short = max(1, long // SHORTER)
    turns = []
    for entry in writers(way, options.ffcv_python):
        job = {
            "paths": paths,
            "workers": options.workers,
            "target": str(scratch / f"{entry.key}.beton"),
        }
        job |= {"options": way.ffcv if entry.kind == PEER else way.ours, "epoch_s": TIMEOUT_S}
        both = [WriterTurns(entry, job | {"num_images": count}) for count in (short, long)]
        for turn in both:
            resources.callback(turn.close)
        turns.append(both)
    for _ in range(options.repeats):
        for both in turns:
            for turn in both:
                turn.epoch()
    for turn in chain(*turns):
        turn.close()
    rows = [compared(*(turn.row for turn in both)) for both in turns]
    return {"name": name, "images": long, "short": short, "files": len(paths), "rows": rows}


def compared(short: dict[str, Any], long: dict[str, Any]) -> dict[str, Any]:
    """The row of the long file, its start told apart by the short one's times; `file_s` keeps both."""
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
    """Who takes part: ours as pip installs it and, where a decoder matters, with the native one; FFCV where it is to be had."""
    rungs = {"ours_pip": ("ffcv_ssl", "simplejpeg")}
    if way.decodes and native.decode_address():
        rungs["ours_native"] = ("ffcv_ssl, native", "native")
    program = "writers.py"
    entries = [
        Entry(key, name, OURS, (program, "--flavour=ours"), None, {DECODER: rung})
        for key, (name, rung) in rungs.items()
    ]
    return (
        [Entry("ffcv", "FFCV", PEER, (program, "--flavour=ffcv"), ffcv_python), *entries]
        if ffcv_python
        else entries
    )


class WriterTurns(Turns):
    """One writer's part; each of its files is removed, and the disk is given time, before the next writer's turn."""

    def __init__(self, entry: Entry, job: dict):
        super().__init__(entry, job["workers"], TIMEOUT_S)
        self.target = Path(job["target"])
        self._process = entry.start()
        self.row |= self.ask({"do": "prepare", "job": job})
        self._clear()

    def epoch(self) -> None:
        super().epoch()
        self._clear()

    def _clear(self) -> None:
        if self.target.exists():
            self.row["size_bytes"] = self.target.stat().st_size
            self.target.unlink()
        os.sync()


def result_text(result: dict[str, Any]) -> str:
    """One way as a table: rates, spread, and how many times as fast ours is, taken within each round."""
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
    """The JPEGs of a folder, or drawn ones of quality 90."""
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
