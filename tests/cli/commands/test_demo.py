"""`ffcv-ssl demo`, on few images and for seconds."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from ffcv_ssl.errors import TrainingStopped
from ffcv_ssl.reader import Reader
from ffcv_ssl.recipes.demo.files import TRAINED, DemoConfig, DemoFiles
from ffcv_ssl.recipes.demo.program import recipe_config
from ffcv_ssl.recipes.demo.training import train_at_once

KEYS = {
    f"{measure}_{row}"
    for measure in ("knn", "linear")
    for row in ("raw", "untrained", "trained", "simclr", "emp_ssl")
}
SECONDS = 0.3 / 60  # of training, in minutes


def check_result(folder):
    """Every number is there and in its range; return the result."""
    result = json.loads((folder / "result.json").read_text())
    assert result.keys() >= KEYS | {"seconds", "chance", "train", "val"}
    assert all(0 <= result[key] <= 1 for key in KEYS)
    assert result["knn_trained"] == max(result["knn_simclr"], result["knn_emp_ssl"])
    assert result["seconds"] > 0
    with Image.open(folder / "demo.png") as picture:
        assert np.asarray(picture.convert("L")).std() > 10
    return result


def test_demo__draws_trains_and_compares(run, tmp_path):
    """One command leaves two files, two runs, a table, a result and a picture."""
    outcome = run(
        "demo",
        f"--demo.out={tmp_path}",
        "--demo.samples=120",
        f"--demo.minutes={SECONDS}",
        "--demo.workers=0",
    )
    assert outcome.status == 0, outcome.err
    for row in (
        "raw pixels",
        "untrained network",
        "SimCLR",
        "EMP-SSL",
        "chance                  10.0    10.0",
    ):
        assert row in outcome.out
    result = check_result(tmp_path)
    assert (result["train"], result["val"]) == (100, 20)
    with Reader(tmp_path / "train.beton") as train, Reader(tmp_path / "val.beton") as val:
        assert train.class_names == val.class_names
        assert not np.array_equal(train.value(0, "image"), val.value(0, "image"))


def test_demo__takes_a_folder(run, tmp_path):
    """An image folder is split at random, shrunk and used in the same way."""
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for index in range(15):
            image = Image.fromarray(rng.integers(0, 256, (30, 50, 3), np.uint8))
            image.save(tmp_path / "images" / name / f"{index}.png")
    (tmp_path / "images" / "b" / "notes.txt").touch()
    out = tmp_path / "out"
    flags = (
        f"--demo.data={tmp_path / 'images'}",
        "--demo.size=24",
        f"--demo.out={out}",
        f"--demo.minutes={SECONDS}",
        "--demo.workers=0",
    )
    outcome = run("demo", *flags)
    assert outcome.status == 0, outcome.err
    result = check_result(out)
    assert (result["train"], result["val"], result["chance"]) == (25, 5, 0.5)
    assert "  ignored: 1 file that is not an image (1 .txt)\n" in outcome.out
    with Reader(out / "train.beton") as reader:
        assert reader.value(0, "image").shape == (14, 24, 3)
        assert set(reader.records["label"]) == {0, 1}


def test_train_at_once__reports_the_run_that_fails(tmp_path, shapes_files):
    """A run that fails ends all of them, with the last line of its log; what an earlier run left
    is gone.
    """
    configs, folders = {}, {}
    for method in TRAINED:
        demo = DemoConfig(out=str(tmp_path), minutes=60, workers=0)
        folders[method] = tmp_path / method
        files = DemoFiles(*shapes_files, 60, 30, [], "")
        configs[method] = recipe_config(method, demo, files, folders[method])
    configs["emp_ssl"]["data"] = replace(
        configs["emp_ssl"]["data"], train=str(tmp_path / "absent.beton")
    )
    (tmp_path / "simclr").mkdir()
    (tmp_path / "simclr" / "checkpoint.pt").write_bytes(b"of an earlier demonstration")
    with pytest.raises(
        TrainingStopped,
        match=r"emp_ssl ended with status 2: .*absent.beton: No such file or directory",
    ):
        train_at_once(configs, folders)


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        (("--demo.samples=10",), "samples is at least 60"),
        (("--demo.minutes=0",), "minutes must be positive"),
        (("--demo.data=/nowhere",), "/nowhere"),
    ],
)
def test_demo__bad_input(run, tmp_path, flags, problem):
    """Bad values end with 2 and one line."""
    outcome = run("demo", f"--demo.out={tmp_path}", *flags)
    assert outcome.status == 2
    assert problem in outcome.err
