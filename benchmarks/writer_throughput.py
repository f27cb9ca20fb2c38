"""Images per second through the writers: ours and FFCV's, on the same JPEG files, with the same number of processes.

    python benchmarks/writer_throughput.py --data=FOLDER --ffcv-python=.venv-ffcv/bin/python --out=writer.json

Every row is a process of its own (`contestants/writers.py`); they take turns, so that noise meets all of them, and only ratios within a
round count. What is timed is what a user waits for, from the call to the finished file: worker processes are started (both packages
fork) and joined; imports are not. An epoch repeats the files until start-up does not matter; the files once show what start-up costs.
Ours is on the disk when it is done (`fsync`), FFCV's is not; between turns everything is brought to the disk. Without a folder the
JPEGs are drawn; without FFCV's Python (`make interop` makes it) its rows are missing.
"""

import argparse
import json
import os
import statistics
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from ffcv_ssl.benchmarks import machine, report
from ffcv_ssl.benchmarks.entries import DECODER, OURS, PEER, Entry
from ffcv_ssl.benchmarks.images import JPEG_QUALITY, MAX_RESOLUTION, DrawnPhotos, JpegFolder
from ffcv_ssl.benchmarks.rounds import Turns
from ffcv_ssl.codecs import native

JPEG = {"write_mode": "jpg", "jpeg_quality": JPEG_QUALITY}
SMALL = {"write_mode": "raw", "max_resolution": 256}
TIMEOUT_S = 600.0


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
    "encode": Way(f"decoded, longest side {MAX_RESOLUTION}, encoded q{JPEG_QUALITY}", CODED | {"reencode": "always"}, CODED, True, 1.8),
    "keep": Way('kept, check="header"; FFCV decodes and encodes', JPEG | {"check": "header"}, JPEG, False, 8.0),
    "check": Way('kept, check="decode"; FFCV decodes and encodes', JPEG | {"check": "decode"}, JPEG, True),
    "raw": Way("decoded, longest side 256, raw", SMALL, SMALL, True),
}


def main() -> None:
    options = parse_arguments()
    with tempfile.TemporaryDirectory(dir=options.folder) as scratch, ExitStack() as resources:
        paths = list(map(str, jpeg_files(options.data, options.images, Path(scratch))))
        results = []
        for num_images in dict.fromkeys((max(options.epoch, len(paths)), len(paths))):
            job = {"paths": paths, "num_images": num_images, "workers": options.workers}
            for name in options.ways:
                result = measure(name, job, options, Path(scratch), resources)
                results.append(result)
                print(result_text(result), end="\n\n", flush=True)
    if options.out:
        options.out.write_text(json.dumps({"machine": machine.describe(), "results": results}, indent=1) + "\n")


def parse_arguments() -> argparse.Namespace:
    """Read the command line and print the machine."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, help="folder of JPEGs (default: drawn images)")
    parser.add_argument("--images", type=int, default=512, help="JPEG files, at most (default 512)")
    parser.add_argument("--epoch", type=int, default=2520, help="images per file, the JPEGs again and again (default 2520)")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS), help="what to measure (default: all)")
    parser.add_argument("--repeats", type=int, default=5, help="files written in each way (default 5)")
    parser.add_argument("--workers", type=int, default=machine.describe()["cores"], help="processes (default: as many as cores)")
    parser.add_argument("--ffcv-python", "--peer.ffcv.python", dest="ffcv_python", help="a Python that has FFCV")
    parser.add_argument("--folder", type=Path, help="where to write (default: the folder for temporary files)")
    parser.add_argument("--out", type=Path, help="JSON with every time")
    options = parser.parse_args()
    print(machine.as_text(machine.describe()), end="\n\n")
    return options


def measure(name: str, job: dict, options: argparse.Namespace, scratch: Path, resources: ExitStack) -> dict[str, Any]:
    """Let every writer write one file as warm-up and then, in turn, `repeats` timed ones; the result is fit for JSON."""
    way = WAYS[name]
    turns = []
    for entry in writers(way, options.ffcv_python):
        target = scratch / f"{entry.key}.beton"
        turn = WriterTurns(entry, job | {"target": str(target), "options": way.ffcv if entry.kind == PEER else way.ours})
        resources.callback(turn.close)
        turns.append(turn)
    for _ in range(options.repeats):
        for turn in turns:
            turn.epoch()
    for turn in turns:
        turn.close()
    return {"name": name, "images": job["num_images"], "files": len(job["paths"]), "rows": [turn.row for turn in turns]}


def writers(way: Way, ffcv_python: str | None) -> list[Entry]:
    """Who takes part: ours as pip installs it and, where a decoder matters, with the native one; FFCV where it is to be had."""
    rungs = {"ours_pip": ("ffcv_ssl", "simplejpeg")}
    if way.decodes and native.decode_address():
        rungs["ours_native"] = ("ffcv_ssl, native", "native")
    program = "writers.py"
    entries = [Entry(key, name, OURS, (program, "--flavour=ours"), None, {DECODER: rung}) for key, (name, rung) in rungs.items()]
    return [Entry("ffcv", "FFCV", PEER, (program, "--flavour=ffcv"), ffcv_python), *entries] if ffcv_python else entries


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
    lines = [["", "images/s", "slowest - fastest", "MB/s", "x FFCV", *(["goal"] if way.goal else [])]]
    for row in result["rows"]:
        if not row["seconds"]:
            lines.append([row["name"], row["reason"]])
            continue
        slowest, fastest = report.spread(row)
        megabytes = row["size_bytes"] / statistics.median(row["seconds"]) / 1e6
        ratio = f"{report.ratio(row, peer):.2f}" if peer else ""
        goal = [f"{way.goal:g}" if way.goal and row["kind"] == OURS else ""]
        lines.append([row["name"], f"{report.rate(row):,.0f}", f"{slowest:,.0f} - {fastest:,.0f}", f"{megabytes:,.0f}", ratio, *goal])
    repeats = max(len(row["seconds"]) for row in result["rows"])
    times = "once" if result["images"] == result["files"] else f"as an epoch of {result['images']:,}"
    return f"{way.title}: {result['files']:,} JPEGs, {times}; median of {repeats}\n{report.as_text(lines)}"


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
