"""Tests of the files in the folder of a run."""

import os
import sys

import pytest

from ffcv_ssl.runs import RunRecord
from ffcv_ssl.runs.record import Table, read_rows
from ffcv_ssl.runs.saved_config import read_run
from ffcv_ssl.system.paths import utf8_path
from ffcv_ssl.train import LogConfig


@pytest.mark.skipif(sys.platform != "linux", reason="file systems elsewhere refuse such names")
def test_record__in_a_folder_whose_name_is_no_utf8(tmp_path):
    """A run can be recorded in, and read from, a folder whose name is not UTF-8."""
    out = os.path.join(tmp_path, os.fsdecode(b"caf\xe9"))
    with RunRecord(
        "simclr", {"log": LogConfig(out=out, tensorboard=True, progress=False)}
    ) as record:
        record.begin(0)
        record.train_row({"step": 1, "epoch": 1.0, "lr": 0.1, "loss": 2.0, "seconds": 1.0})
        record.write_result({"scores": {}})
    names = sorted(os.listdir(out))
    assert [name.partition(".tfevents")[0] for name in names] == [
        "config.yaml",
        "curves.png",
        "events.out",
        "result.json",
        "train.csv",
    ]
    assert os.path.getsize(os.path.join(out, names[2])) > 100
    assert read_run(out) == (
        "simclr",
        {"log": {**vars(LogConfig(out=out, tensorboard=True, progress=False))}},
    )


def test_utf8_path__names_the_same_file(tmp_path):
    """UTF-8 names are unchanged; the descriptor behind any other is closed after the block."""
    with utf8_path(tmp_path / "é") as path:
        assert path == str(tmp_path / "é")
    if sys.platform == "linux":
        odd = os.path.join(tmp_path, os.fsdecode(b"\xff"))
        os.mkdir(odd)
        with utf8_path(odd) as path:
            path.encode("utf-8")
            assert os.path.samefile(path, odd)
        assert not os.path.exists(path)


def test_table__is_truncated_atomically(tmp_path, monkeypatch):
    """On resume, later rows are dropped, and a failure meanwhile loses no rows."""
    path = tmp_path / "train.csv"
    table = Table(path)
    for step in range(1, 5):
        table.add({"step": step, "loss": step / 3})
    before = path.read_bytes()

    def refuse(*paths):
        raise PermissionError("no")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", refuse)
        with pytest.raises(PermissionError):
            Table(path, last_step=2)
    assert path.read_bytes() == before
    table = Table(path, last_step=2)
    table.add({"step": 3, "loss": 0.5})
    assert read_rows(path) == [
        {"step": 1.0, "loss": 1 / 3},
        {"step": 2.0, "loss": 2 / 3},
        {"step": 3.0, "loss": 0.5},
    ]


def test_announce__waits_for_the_training(tmp_path):
    """The record keeps the announcing function for the loop and does not call it."""
    called = []
    record = RunRecord(
        "simclr", {"log": LogConfig(out=str(tmp_path / "run"))}, announce=lambda: called.append(1)
    )
    assert called == []
    record.announce()
    assert called == [1]
