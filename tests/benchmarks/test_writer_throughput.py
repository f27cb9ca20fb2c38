"""The benchmark of the writers: a short file separates the start from the rate."""

import json
import sys

import pytest

from ffcv_ssl.benchmarks import writer_throughput
from ffcv_ssl.benchmarks.writer_throughput import compared


def test_compared__tells_the_start_apart(make_row):
    """80 images in 5 s and 10 in 1.5 s are 20 images per second after a start of 1 s."""
    short = make_row("ffcv", seconds=(1.5, 2.5), images=[10, 10])
    row = compared(short, make_row("ffcv", seconds=(5.0, 6.0), images=[80, 80]))
    assert row["images"] == [70, 70]
    assert row["seconds"] == [3.5, 3.5]
    assert row["start_s"] == pytest.approx([1.0, 2.0])
    assert row["file_s"] == {"short": [1.5, 2.5], "long": [5.0, 6.0]}


def test_compared__of_files_that_are_too_short_has_no_rate(make_row):
    """If the long file took no longer than the short one, the reason says what to do."""
    row = compared(
        make_row("ours_pip", seconds=(2.0, 1.0)), make_row("ours_pip", seconds=(1.0, 2.0))
    )
    assert (row["status"], row["seconds"]) == ("failed", [])
    assert "raise --epoch" in row["reason"]


def test_compared__keeps_why_a_writer_is_absent(make_row):
    """The row of an absent writer keeps its reason."""
    absent = make_row("ffcv", seconds=(), status="absent", reason="no module")
    assert compared(absent, make_row("ffcv"))["reason"] == "no module"


def test_program__writes_files_of_both_lengths(tmp_path, monkeypatch):
    """In each round a writer writes a file of whole repetitions and one of an eighth of it."""
    out, written = tmp_path / "writer.json", []

    def kept(short, long):
        written.append((short["images"], long["images"]))
        return long

    monkeypatch.setattr(writer_throughput, "compared", kept)
    flags = ["--images=4", "--epoch=70", "--ways", "keep", "--repeats=2", "--workers=1"]
    flags += [f"--folder={tmp_path}", f"--out={out}"]
    monkeypatch.setattr(sys, "argv", ["writer_throughput.py", *flags])
    writer_throughput.main()
    (result,) = json.loads(out.read_text())["results"]
    assert (result["images"], result["short"], result["files"]) == (72, 9, 4)
    assert written == [([9, 9], [72, 72])]


def test_table__tells_the_start_apart(make_row):
    """The start has a column in milliseconds, beside the ratio of the rates."""
    rows = [make_row("ffcv", seconds=(2.0,)), make_row("ours_pip", "ours", (1.0,), start_s=[0.01])]
    for row in rows:
        row["size_bytes"] = 80_000_000
    text = writer_throughput.result_text({"name": "keep", "images": 80, "files": 10, "rows": rows})
    head, ffcv, ours = (line.split() for line in text.splitlines()[1:])
    assert head == [
        "images/s",
        "slowest",
        "-",
        "fastest",
        "MB/s",
        "start,",
        "ms",
        "x",
        "FFCV",
        "goal",
    ]
    assert ffcv == ["ffcv", "50", "50", "-", "50", "50", "250", "1.00"]
    assert ours == ["ours_pip", "100", "100", "-", "100", "100", "10", "2.00", "8"]
