"""The programs, run as a user runs them, on a small file."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml

from ffcv_ssl.cli.config.parser import parse
from ffcv_ssl.fields import IntField, RGBImageField
from ffcv_ssl.recipes import (
    barlow_twins,
    byol,
    emp_ssl,
    simclr,
    simclr_instance,
    supervised,
    vicreg,
)
from ffcv_ssl.runs.record import read_rows
from ffcv_ssl.ssl import Method
from ffcv_ssl.train import load_checkpoint
from ffcv_ssl.writer import DatasetWriter
from tests.reference.torchrun import torchrun

RECIPES = Path(__file__).resolve().parents[2] / "recipes"
PROGRAMS = {
    module.RECIPE.name: module
    for module in (simclr, emp_ssl, barlow_twins, vicreg, byol, simclr_instance, supervised)
}
SMALL_HEAD = ["--loss.hidden=16", "--loss.out=8"]
SMALL = {
    "emp_ssl": [
        "--view.num_views=3",
        "--view.patch=8",
        "--view.image_size=16",
        "--bag.patches=4",
        *SMALL_HEAD,
    ],
    "simclr_instance": ["--view.num_views=3", *SMALL_HEAD],
    "supervised": ["--loss.classes=4"],
}
NUM_LAYERS = {"emp_ssl": 3, "supervised": 1}  # of the projector; the others have two
PROBES = ["--probe.linear=1", "--probe.mlp=1", "--probe.layers=1", "--probe.hidden=8"]


class Stripes:
    """Four classes: stripes of two directions and two widths, in random colors."""

    def __init__(self, num_samples, seed):
        self.num_samples, self.seed = num_samples, seed

    def __len__(self):
        return self.num_samples

    def __getitem__(self, index):
        generator = np.random.default_rng((self.seed, index))
        label = index % 4
        along = np.arange(16)[:, None] if label % 2 else np.arange(16)[None, :]
        phase = generator.integers(0, 8)
        bright = ((along + phase) // (2 if label < 2 else 4) % 2).astype(np.float32) * np.ones(
            (16, 16), np.float32
        )
        colors = generator.uniform(0, 255, (2, 3))
        image = (
            bright[..., None] * colors[0]
            + (1 - bright[..., None]) * colors[1]
            + generator.normal(0, 10, (16, 16, 3))
        )
        return image.clip(0, 255).astype(np.uint8), label


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Flags naming a training file of 96 and a validation file of 40 samples."""
    folder = tmp_path_factory.mktemp("stripes")
    fields = {"image": RGBImageField(write_mode="raw"), "label": IntField()}
    for name, num_samples, seed in (("train", 96, 0), ("val", 40, 1)):
        DatasetWriter(
            folder / f"{name}.beton", fields, num_workers=1, progress=False
        ).from_indexed_dataset(Stripes(num_samples, seed))
    return [f"--data.train={folder / 'train.beton'}", f"--data.val={folder / 'val.beton'}"]


def arguments(name, files, out, *more):
    small = [
        "--train.batch_size=16",
        "--train.epochs=2",
        "--train.device=cpu",
        "--train.threads=1",
        "--data.workers=0",
        "--log.every=1",
    ]
    small += ["--view.size=16", "--model.width=4", *SMALL.get(name, SMALL_HEAD)]
    return [
        "--config-file",
        str(RECIPES / f"{name}_cpu.yaml"),
        *files,
        *small,
        "--log.progress=0",
        f"--log.out={out}",
        *more,
    ]


@pytest.mark.parametrize("name", PROGRAMS)
def test_recipe__trains_evaluates_and_leaves_its_results(name, files, tmp_path, capsys):
    """main() returns 0; config, checkpoint, tables, curves, events and a result with the scores
    stand in the folder.
    """
    out = tmp_path / "run"
    assert PROGRAMS[name].main(arguments(name, files, out, "--eval.times=2", *PROBES)) == 0
    result = json.loads((out / "result.json").read_text())
    assert result["method"] == name
    assert result["steps"] == 12
    assert result["images"] == 192
    places = ["", *(f"_layer{i}" for i in range(1, NUM_LAYERS.get(name, 2) + 1))]
    probes = {"online_mlp", *(f"online_linear{place}" for place in places)}
    more = {"emp_ssl": {"bag_knn", "bag_linear"}, "supervised": {"accuracy"}}.get(name, set())
    assert {"knn", "linear", "rankme", "num_features"} | probes | more <= set(result["scores"])
    assert {score for score in result["scores"] if score.startswith("online")} == probes
    assert result["scores"]["num_features"] == 32
    assert [row["step"] for row in read_rows(out / "eval.csv")] == [0, 6, 12]
    last = read_rows(out / "eval.csv")[-1]
    assert set(last) == {"step", "epoch", "seconds", "evaluation_seconds", "knn", "rankme"} | probes
    assert all(last[score] == result["scores"][score] for score in {"knn", "rankme"} | probes)
    assert {f"{probe}_{value}" for probe in probes for value in ("loss", "accuracy")} < set(
        read_rows(out / "train.csv")[-1]
    )
    assert len(read_rows(out / "train.csv")) == 12
    assert result["view_epochs"] == 2 * result["views"] / result["images"]
    assert 0 < last["evaluation_seconds"] == result["evaluation_seconds"]
    assert result["peak_memory_bytes"] > 50e6  # torch alone
    assert load_checkpoint(out / "checkpoint.pt")["progress"]["step"] == 12
    assert {"config.yaml", "curves.png"} < {file.name for file in out.iterdir()}
    assert len(list(out.glob("events.out.tfevents.*"))) == 1
    printed = capsys.readouterr()
    assert "knn" in printed.out
    assert "optim.lr" in printed.err  # the resolved configuration, at the start


@pytest.mark.parametrize("name", PROGRAMS)
def test_recipe__resumes_with_the_real_loader(name, files, tmp_path):
    """Stopped by SIGTERM within an epoch, the continued run has the unbroken run's losses and
    scores, bit for bit, probes included.
    """
    main = PROGRAMS[name].main
    more = [
        "--eval.linear_epochs=1",
        "--log.tensorboard=0",
        *PROBES,
        *(["--bag.patches=0"] if name == "emp_ssl" else []),
    ]
    assert main(arguments(name, files, tmp_path / "unbroken", *more)) == 0
    calls, call = [], Method.__call__

    def interrupted(self, *inputs):
        calls.append(1)
        if len(calls) == 9:
            os.kill(os.getpid(), signal.SIGTERM)
        return call(self, *inputs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Method, "__call__", interrupted)
        assert main(arguments(name, files, tmp_path / "broken", *more)) == 128 + signal.SIGTERM
    assert load_checkpoint(tmp_path / "broken" / "checkpoint.pt")["progress"]["step"] == 9
    assert main(arguments(name, files, tmp_path / "broken", *more, "--train.resume=1")) == 0
    rows, scores = [], []
    for run in (tmp_path / "unbroken", tmp_path / "broken"):
        columns = [
            column
            for column in read_rows(run / "train.csv")[0]
            if column == "loss" or column.startswith("online")
        ]
        rows.append([[row[column] for column in columns] for row in read_rows(run / "train.csv")])
        scores.append(json.loads((run / "result.json").read_text())["scores"])
    assert len(rows[0]) == 12
    assert rows[0] == rows[1]
    assert scores[0] == scores[1]


@pytest.mark.gpu
@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--train.precision=float16", "--train.recompute=1", "--model.images_per_forward=8"],
        ["--data.render=gpu", "--data.cache=device"],
        ["--train.compile=default"],
        ["--train.compile=reduce-overhead"],
    ],
    ids=lambda options: "+".join(option.lstrip("-") for option in options) or "plain",
)
@pytest.mark.parametrize("name", sorted(PROGRAMS))
def test_recipe__trains_on_a_gpu(name, options, files, tmp_path):
    """Every method trains and evaluates on a GPU, however the views get there and the network is
    run.
    """
    out = tmp_path / "run"
    given = [
        argument
        for argument in arguments(name, files, out, *options)
        if argument != "--train.device=cpu"
    ]
    assert (
        PROGRAMS[name].main(
            [*given, "--train.device=cuda", "--eval.times=2", "--log.tensorboard=0"]
        )
        == 0
    )
    assert all(np.isfinite(row["loss"]) for row in read_rows(out / "train.csv"))
    assert len(read_rows(out / "train.csv")) == 12


def test_recipe__says_what_is_wrong_in_one_line(files, tmp_path, capsys):
    """A missing file, an unknown option and a used folder end with status 2 and one line."""
    out = tmp_path / "run"
    assert simclr.main(arguments("simclr", ["--data.train=nowhere.beton"], out)) == 2
    assert "nowhere.beton" in capsys.readouterr().err.splitlines()[-1]
    assert simclr.main(arguments("simclr", files, out, "--loss.temprature=1")) == 2
    assert "temperature" in capsys.readouterr().err.splitlines()[-1]
    more = ["--train.epochs=1", "--log.tensorboard=0", "--eval.linear_epochs=0"]
    assert simclr.main(arguments("simclr", files, out, *more)) == 0
    assert simclr.main(arguments("simclr", files, out, *more)) == 2
    assert "holds a run already" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("option", "problem"),
    [("view.patch=12.5", "whole number of pixels"), ("view.num_views=1", "at least 2")],
)
def test_emp_ssl__refuses_views_that_it_cannot_train_on(files, tmp_path, capsys, option, problem):
    """Half pixels and single patches end with status 2 before anything is trained."""
    assert emp_ssl.main(arguments("emp_ssl", files, tmp_path / "run", f"--{option}")) == 2
    assert problem in capsys.readouterr().err.splitlines()[-1]


def test_recipe__trains_in_two_processes(files, tmp_path):
    """Under torchrun both processes take half of each batch; one result says so, and the folder is
    that of one run.
    """
    out = tmp_path / "run"
    more = [
        "--train.precision=float32",
        "--eval.times=2",
        "--log.tensorboard=0",
        "--eval.linear_epochs=1",
    ]
    done = torchrun("ffcv_ssl.recipes.simclr", *arguments("simclr", files, out, *more))
    assert done.returncode == 0, done.stderr
    result = json.loads((out / "result.json").read_text())
    assert (result["steps"], result["images"]) == (12, 192)
    assert len(read_rows(out / "train.csv")) == 12
    assert [row["step"] for row in read_rows(out / "eval.csv")] == [0, 6, 12]
    assert done.stdout.count("written to") == 1


def test_recipe__ctrl_c_ends_with_130_and_a_checkpoint(files, tmp_path):
    """`python recipes/simclr.py`, as a process of its own, stops on SIGINT with status 130, one
    line and a checkpoint that loads.
    """
    out = tmp_path / "run"
    command = [
        sys.executable,
        str(RECIPES / "simclr.py"),
        *arguments("simclr", files, out, "--train.epochs=100000", "--log.tensorboard=0"),
    ]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline and len(read_rows(out / "train.csv")) < 3:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "--train.resume=1 continues" in errors.splitlines()[-1]
    assert load_checkpoint(out / "checkpoint.pt")["progress"]["step"] >= 3


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_yaml__is_accepted_by_its_program(path):
    """Each YAML file parses under the method it names."""
    name = yaml.safe_load(path.read_text())["method"]
    configs = parse(
        name,
        PROGRAMS[name].RECIPE.sections,
        ["--config-file", str(path), "--data.train=train.beton", "--log.out=elsewhere"],
    )
    assert configs["log"].out == "elsewhere"


@pytest.mark.parametrize(
    "path",
    [path for path in sorted(RECIPES.glob("*.yaml")) if "demo" not in path.stem],
    ids=lambda path: path.stem,
)
def test_yaml__opens_with_its_command(path):
    """The first line is the command that uses the file, and the run goes to a folder of its own
    name.
    """
    content = yaml.safe_load(path.read_text())
    command = (
        f"# ffcv-ssl train --config-file={path.stem} --data.train=train.beton --data.val=val.beton"
    )
    assert path.read_text().splitlines()[0] == command
    assert content["log"]["out"] == f"runs/{path.stem}"


def test_yaml__every_recipe_stands_in_the_index():
    """recipes/README.md names every YAML file."""
    index = (RECIPES / "README.md").read_text()
    assert [path.name for path in RECIPES.glob("*.yaml") if path.name not in index] == []
