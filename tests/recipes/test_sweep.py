"""Studies: which cells they hold, which of them are trained, and what is written about them."""

import csv
import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml

from ffcv_ssl.errors import ConfigError, TrainingStopped
from ffcv_ssl.fields import IntField, RGBImageField
from ffcv_ssl.recipes import sweep
from ffcv_ssl.recipes.cells import make_cells
from ffcv_ssl.recipes.report import is_accuracy, pareto_frontier, summary, title_of
from ffcv_ssl.recipes.study import STUDIES, read_study, study_names
from ffcv_ssl.runs.record import read_rows
from ffcv_ssl.writer import DatasetWriter

EPOCHS = 60  # of 3 steps: some seconds, long enough to be interrupted
PNG = b"\x89PNG\r\n\x1a\n"
STUDY = {
    "base": "simclr_cpu",
    "set": {"train.epochs": 1},
    "grid": {"loss.temperature": [0.1, 0.5]},
    "seeds": [0, 1],
    "x": "loss.temperature",
    "y": "scores.knn",
}
SMALL = {
    "view.size": 16,
    "model.width": 4,
    "loss.hidden": 16,
    "loss.out": 8,
    "train.device": "cpu",
    "data.workers": 0,
    "eval.linear_epochs": 1,
    "log.tensorboard": 0,
}


class Squares:
    """Two classes: bright and dark squares."""

    def __init__(self, num_samples):
        self.num_samples = num_samples

    def __len__(self):
        return self.num_samples

    def __getitem__(self, index):
        generator = np.random.default_rng(index)
        return (generator.integers(0, 120, (16, 16, 3)) + 130 * (index % 2)).astype(
            np.uint8
        ), index % 2


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Settings naming a training file of 96 and a validation file of 40 samples."""
    folder = tmp_path_factory.mktemp("squares")
    fields = {"image": RGBImageField(write_mode="raw"), "label": IntField()}
    for name, num_samples in (("train", 96), ("val", 40)):
        DatasetWriter(
            folder / f"{name}.beton", fields, num_workers=1, progress=False
        ).from_indexed_dataset(Squares(num_samples))
    return {"data.train": str(folder / "train.beton"), "data.val": str(folder / "val.beton")}


def study_of(folder, **changes):
    """A study read from a file in `folder`; None takes a key away."""
    path = folder / "study.yaml"
    content = {key: value for key, value in {**STUDY, **changes}.items() if value is not None}
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return read_study(str(path))


def cells_of(study, out, **more):
    return make_cells(study, out, overrides={"data.train": "train.beton", **more})


def rows_of(out):
    with (out / "cells.csv").open(newline="") as file:
        return list(csv.reader(file))


class FakeTraining:
    """Stands for the training: leaves the result of a run whose kNN is temperature + seed / 10,
    unless it is told to fail.
    """

    def __init__(self, failing=(), scores=("knn",)):
        self.failing, self.scores, self.trained = failing, scores, []

    def __call__(self, cell, stop):
        self.trained.append(cell.name)
        (cell.folder / "config.yaml").write_text(yaml.safe_dump(cell.config))
        if cell.name in self.failing:
            (cell.folder / "log.txt").write_text("starting\nsimclr: the loss is not finite.\n\n")
            return 1
        value = cell.config["loss"]["temperature"] + cell.seed / 10
        numbers = {
            "seconds": 60.0 * value,
            "images_per_s": 5.0,
            "views": 10,
            "epochs": 1.0,
            "device": "cpu",
        }
        result = {"scores": dict.fromkeys(self.scores, value), **numbers, "config": cell.config}
        (cell.folder / "result.json").write_text(json.dumps(result))
        return 0


def test_cells__are_every_combination_of_places_and_seeds(tmp_path):
    """The grid's product, the recipe's settings under the study's under the place's under the
    command line's.
    """
    grid = {
        "loss.temperature": [0.1, "2e-1"],
        "color": {"gray": {"view.gray": 1.0, "optim.lr": 0.3}, "as it is": None},
    }
    study = study_of(tmp_path, grid=grid, set={"train.epochs": 7, "optim.lr": 0.1})
    cells = cells_of(study, tmp_path / "out", **{"train.batch_size": "64", "train.epochs": "9"})
    found = [
        (
            cell.config["loss"]["temperature"],
            cell.config["view"]["gray"],
            cell.config["optim"]["lr"],
            cell.seed,
        )
        for cell in cells
    ]
    assert found == [
        (t, *rest, seed) for t in (0.1, 0.2) for rest in ((1.0, 0.3), (0.2, 0.1)) for seed in (0, 1)
    ]
    assert {
        (cell.config["train"]["epochs"], cell.config["train"]["batch_size"]) for cell in cells
    } == {(9, 64)}
    assert len({cell.folder for cell in cells}) == 8
    assert [cell.folder for cell in cells] == [Path(cell.config["log"]["out"]) for cell in cells]
    assert cells[0].name == "temperature 0.1, color gray, seed 0"


def test_cells__seed_of_the_command_line_replaces_the_studys(tmp_path):
    """--train.seed=5 leaves one cell per point, with that seed; 5,7 two."""
    assert [
        cell.seed for cell in cells_of(study_of(tmp_path), tmp_path, **{"train.seed": "5"})
    ] == [5, 5]
    assert [
        cell.seed for cell in cells_of(study_of(tmp_path), tmp_path, **{"train.seed": "5,7"})
    ] == [5, 7, 5, 7]


def test_cells__variants_bring_their_own_recipe(tmp_path):
    """A variant's base decides its program; --sweep.base={method}_… takes the recipe of each
    method.
    """
    variants = {"few views": {"base": "simclr_cifar10"}, "patches": {"base": "emp_ssl_cifar10"}}
    study = study_of(tmp_path, base=None, grid={"method": variants}, x="method", seeds=[0])
    few, patches = cells_of(study, tmp_path)
    assert few.config["loss"]["temperature"] == 0.5
    assert patches.config["view"]["num_views"] == 20
    small = make_cells(study, tmp_path, "{method}_cpu", {"data.train": "train.beton"})
    assert [Path(cell.arguments[0]).name for cell in small] == [
        "simclr_cpu.yaml",
        "emp_ssl_cpu.yaml",
    ]
    with pytest.raises(ConfigError, match=r"write --sweep\.base=\{method\}_cpu"):
        make_cells(study, tmp_path, "simclr_cpu", {"data.train": "train.beton"})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ys": "scores.knn"}, "no 'ys'.*Did you mean 'y'"),
        ({"y": None}, "no 'y'"),
        ({"base": None}, "no 'base'"),
        ({"x": "loss.out"}, "no axis 'loss.out'"),
        ({"lines": "loss.temperature"}, "x and lines at once"),
        ({"seeds": [0, 0]}, "different whole numbers"),
        ({"scale": "sqrt"}, "wanted log or linear"),
        ({"grid": {"loss.temperature": [0.1, 0.1]}}, "given twice"),
        ({"grid": {"loss.temperature": 0.1}}, "wanted a list"),
        ({"grid": {"temperature": [0.1]}, "x": "temperature"}, "section.field"),
        (
            {"grid": {"kind": {"a": {"temperature": 1}}}, "x": "kind"},
            "'temperature' is not an option",
        ),
        ({"grid": {"kind": {"a": {}}}, "x": "kind", "scale": "log"}, "log scale needs numbers"),
    ],
)
def test_read_study__refuses_what_it_does_not_understand(tmp_path, changes, message):
    """Each mistake in the file is named."""
    with pytest.raises(ConfigError, match=message):
        study_of(tmp_path, **changes)


@pytest.mark.parametrize(
    ("changes", "overrides", "message"),
    [
        ({"base": "simclr_cup"}, {}, "no such recipe.*Did you mean 'simclr_cpu'"),
        ({"set": {"loss.temprature": 1}}, {}, "temperature 0.1: unknown option --loss.temprature"),
        ({}, {"loss.temperature": "1"}, "varies it on its axis"),
        (
            {"grid": {"view.num_views": [2, 0]}, "x": "view.num_views"},
            {},
            "num_views must be at least 1",
        ),
        ({"grid": {"kind": {"a b": {}, "a-b": {}, "ab": {}}}, "x": "kind"}, {}, "share the folder"),
    ],
)
def test_cells__a_wrong_one_is_found_before_training(tmp_path, changes, overrides, message):
    """A setting that a cell's program refuses stops the sweep at once."""
    with pytest.raises(ConfigError, match=message):
        cells_of(study_of(tmp_path, **changes), tmp_path, **overrides)


def test_read_study__unknown_names_list_the_known():
    """A name that stands for no study is answered with those that there are."""
    with pytest.raises(ConfigError, match="augmentations"):
        read_study("augmentation")


def test_run__writes_rows_table_and_picture(tmp_path):
    """The CSV has a row per run with all digits, the table mean and sample deviation over seeds,
    the picture is a PNG.
    """
    study = study_of(tmp_path)
    assert (
        sweep.run(
            study, cells_of(study, tmp_path), tmp_path, FakeTraining(scores=("knn", "rankme"))
        )
        == {}
    )
    rows = rows_of(tmp_path)
    assert rows[0] == [
        "loss.temperature",
        "seed",
        "knn",
        "rankme",
        "seconds",
        "images_per_s",
        "views",
        "epochs",
        "device",
    ]
    assert rows[1] == ["0.1", "0", "0.1", "0.1", "6.0", "5.0", "10", "1.0", "cpu"]
    assert [row[:3] for row in rows[2:]] == [
        ["0.1", "1", "0.2"],
        ["0.5", "0", "0.5"],
        ["0.5", "1", "0.6"],
    ]
    table = (tmp_path / "table.md").read_text()
    deviation = np.std([10, 20], ddof=1)
    assert f"| 0.1 | 2 | 15.00 ± {deviation:.2f} | 9.0 ± {np.std([6, 12], ddof=1):.1f} |" in table
    assert "| loss.temperature | n | kNN, % | training, s |" in table
    assert (tmp_path / "figure.png").read_bytes()[:8] == PNG


def test_run__skips_what_is_finished(tmp_path):
    """A second run trains nothing and writes the same rows; a third with another seed trains that
    alone.
    """
    study = study_of(tmp_path)
    training = FakeTraining()
    sweep.run(study, cells_of(study, tmp_path), tmp_path, training)
    assert len(training.trained) == 4
    before = (tmp_path / "cells.csv").read_bytes()
    (tmp_path / "figure.png").unlink()
    sweep.run(
        study,
        cells_of(study, tmp_path, **{"train.threads": "1", "log.every": "3"}),
        tmp_path,
        training,
    )
    assert len(training.trained) == 4
    assert (tmp_path / "cells.csv").read_bytes() == before
    assert (tmp_path / "figure.png").exists()
    more = study_of(tmp_path, seeds=[0, 1, 2])
    sweep.run(more, cells_of(more, tmp_path), tmp_path, training)
    assert training.trained[4:] == ["temperature 0.1, seed 2", "temperature 0.5, seed 2"]


def test_run__refuses_cells_of_another_configuration(tmp_path):
    """A folder that holds a run with other settings is neither used nor overwritten; the option
    that differs is named.
    """
    study = study_of(tmp_path)
    sweep.run(study, cells_of(study, tmp_path), tmp_path, FakeTraining())
    training = FakeTraining()
    failures = sweep.run(
        study, cells_of(study, tmp_path, **{"optim.lr": "0.7"}), tmp_path, training
    )
    assert training.trained == []
    assert len(failures) == 4
    assert "optim.lr=0.2, not 0.7" in failures["temperature 0.1, seed 0"]


def test_run__goes_on_after_a_failure(tmp_path, capsys):
    """A failed cell is reported with the last line of its log, the others are trained, and the
    table shows the gap.
    """
    study = study_of(tmp_path)
    training = FakeTraining(failing=("temperature 0.1, seed 0", "temperature 0.1, seed 1"))
    failures = sweep.run(study, cells_of(study, tmp_path), tmp_path, training)
    assert len(training.trained) == 4
    assert failures == dict.fromkeys(training.failing, "status 1: simclr: the loss is not finite.")
    assert "failed: status 1: simclr: the loss is not finite." in capsys.readouterr().out
    assert len(rows_of(tmp_path)) == 3
    assert "| 0.1 | 0 | - | - |" in (tmp_path / "table.md").read_text()


def test_run__names_a_score_that_was_not_measured(tmp_path):
    """A cell whose result lacks what the study draws is a failure that says what there is, but
    keeps its row.
    """
    study = study_of(tmp_path, y=["scores.knn", "scores.mlp"])
    failures = sweep.run(study, cells_of(study, tmp_path), tmp_path, FakeTraining())
    assert (
        failures["temperature 0.1, seed 0"]
        == "its result.json has no scores.mlp. It has the scores knn."
    )
    assert len(rows_of(tmp_path)) == 5


def test_run__a_stop_request_leaves_after_the_running_cell(tmp_path):
    """After SIGTERM no further cell begins, what was finished is written, and the status is 128 +
    15.
    """
    study = study_of(tmp_path)
    training = FakeTraining()

    def stopped(cell, stop):
        if len(training.trained) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
            return 143
        return training(cell, stop)

    with pytest.raises(TrainingStopped, match="2 of 4 cells are finished") as caught:
        sweep.run(study, cells_of(study, tmp_path), tmp_path, stopped)
    assert caught.value.exit_status == 143
    assert len(training.trained) == 2
    assert len(rows_of(tmp_path)) == 3


@pytest.mark.parametrize(
    "changes",
    [
        {"scale": "log", "frontier": True},
        {
            "grid": {
                "kind": {"plain": {}, "gray": {"view.gray": 1.0}},
                "loss.temperature": [0.1, 0.5],
            },
            "lines": "kind",
        },
        {
            "grid": {
                "kind": {"plain": {}, "gray": {"view.gray": 1.0}},
                "loss.temperature": [0.1, 0.5],
            },
            "x": "kind",
            "frontier": True,
        },
        {
            "grid": {"optim.lr": [0.1, 0.2], "loss.temperature": [0.1, 0.5]},
            "y": ["scores.knn", "seconds"],
        },
    ],
    ids=["frontier", "lines", "names", "panels"],
)
def test_draw_study__draws_every_kind(tmp_path, changes):
    """Numbers, names, lines, panels, several scores and the frontier: each gives a picture, also
    where cells are missing.
    """
    study = study_of(tmp_path, **changes)
    cells = cells_of(study, tmp_path)
    sweep.run(study, cells, tmp_path, FakeTraining(failing=(cells[0].name, cells[1].name)))
    assert (tmp_path / "figure.png").read_bytes()[:8] == PNG


def test_pareto_frontier__is_what_nothing_beats():
    """Equal to a comparison of all pairs, with ties and doubles, in the order of the first value."""  # noqa: E501
    generator = np.random.default_rng(0)
    for size in (0, 1, 2, 5, 40):
        for _ in range(50):
            points = [(float(a), float(b)) for a, b in generator.integers(0, 8, (size, 2))]

            def beats(p, q):
                return p[0] <= q[0] and p[1] <= q[1] and p != q

            wanted = {i for i, q in enumerate(points) if not any(beats(p, q) for p in points)}
            found = pareto_frontier(points)
            assert set(found) == wanted
            assert len(found) == len(wanted)
            assert [points[i] for i in found] == sorted(points[i] for i in found)


def test_summary__one_run_has_no_deviation():
    """Mean, sample deviation and n; None where there is none."""
    assert summary([]) == (None, None, 0)
    assert summary([3.0]) == (3.0, None, 1)
    assert summary([1.0, 2.0, 4.0]) == pytest.approx((7 / 3, np.std([1, 2, 4], ddof=1), 3))


@pytest.mark.parametrize(
    ("key", "title"),
    [
        ("scores.knn", "kNN, %"),
        ("scores.bag_linear", "bag linear, %"),
        ("scores.rankme", "rankme"),
        ("images_per_s", "images per s"),
        ("scores.online_mlp", "online MLP, %"),
    ],
)
def test_titles__percent_for_accuracies_alone(key, title):
    """What is a share of samples is shown in percent, what is none is not."""
    assert title_of(key) == title
    assert is_accuracy(key) == title.endswith("%")


def test_split_arguments__parts_the_sweeps_own_from_the_cells():
    """The study, by place or --config-file, and --sweep options; all else goes to every cell."""
    own, overrides = sweep.split_arguments(
        ["--data.train=a=b", "-C", "s.yaml", "--sweep.out=o", "--train.epochs=1"]
    )
    assert own == ["s.yaml", "--sweep.out=o"]
    assert overrides == {"data.train": "a=b", "train.epochs": "1"}
    assert sweep.split_arguments(["--config-file=s.yaml"]) == (["s.yaml"], {})
    for arguments in (["s", "--train.epochs", "1"], ["s", "--log.out=there"]):
        with pytest.raises(ConfigError):
            sweep.split_arguments(arguments)


def arguments(folder, files, **more):
    settings = {**SMALL, **files, "sweep.out": folder / "out", **more}
    return [
        str(folder / "study.yaml"),
        *(f"--{option}={value}" for option, value in settings.items()),
    ]


def test_sweep__says_what_is_wrong_in_one_line(files, tmp_path, capsys):
    """A missing data file, an unknown option and an unknown study end with status 2 before
    anything is trained.
    """
    study_of(tmp_path)
    for given, message in (
        (
            arguments(tmp_path, files, **{"data.val": "nowhere.beton"}),
            "nowhere.beton: no such file",
        ),
        (arguments(tmp_path, files, **{"data.val": ""}), "give --data.val=…"),
        (arguments(tmp_path, files, **{"train.epoch": 1}), "Did you mean '--train.epochs'"),
        (["probe"], "Did you mean 'probes'"),
    ):
        assert sweep.main(given) == 2
        assert message in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "out").exists()


def test_sweep__examines_the_files_before_the_first_cell(files, tmp_path, capsys, caplog):
    """Files without a common label end with status 2 and nothing trained; images that both files
    hold are reported once, not per cell.
    """
    study_of(tmp_path)
    fields = {"image": RGBImageField(write_mode="raw"), "label": IntField()}
    samples = [(image, 7 + label) for image, label in map(Squares(8).__getitem__, range(8))]
    DatasetWriter(
        tmp_path / "other.beton", fields, num_workers=0, progress=False
    ).from_indexed_dataset(samples)
    assert sweep.main(arguments(tmp_path, files, **{"data.val": tmp_path / "other.beton"})) == 2
    assert "no image of any class in" in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "out").exists()
    cells = cells_of(read_study(str(tmp_path / "study.yaml")), tmp_path / "out", **files)
    sweep.examine_cells(cells)
    (remark,) = caplog.messages
    assert "40 of 40 images" in remark


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[1",
        "[" * 5000,
        "7",
        "[]",
        '{"scores": 1}',
        '{"scores": {}, "config": []}',
        '{"config": {"train": 3}}',
    ],
)
def test_sweep__a_torn_result_is_trained_again(tmp_path, text):
    """A result.json that no run wrote counts as none: the cell is trained."""
    (cell, *_) = cells = cells_of(study_of(tmp_path, seeds=[0]), tmp_path / "out")
    train = FakeTraining()
    cell.folder.mkdir(parents=True)
    (cell.folder / "result.json").write_text(text)
    assert sweep.run(study_of(tmp_path, seeds=[0]), cells, tmp_path / "out", train) == {}
    assert train.trained == [cell.name for cell in cells]


@pytest.mark.parametrize("text", ["a: [", "[" * 5000, "7", "method: simclr\ntrain: 3"])
def test_sweep__a_damaged_configuration_is_a_failed_cell(tmp_path, text):
    """A config.yaml that no run wrote fails its cell with its path; the others are trained."""
    (cell, *_) = cells = cells_of(study_of(tmp_path, seeds=[0]), tmp_path / "out")
    cell.folder.mkdir(parents=True)
    (cell.folder / "config.yaml").write_text(text)
    failures = sweep.run(study_of(tmp_path, seeds=[0]), cells, tmp_path / "out", FakeTraining())
    assert list(failures) == [cell.name]
    assert f"{cell.folder}/config.yaml: " in failures[cell.name]


def test_sweep__trains_for_real(files, tmp_path, capsys):
    """Of two cells one cannot be trained: status 1, its reason, the other's row; the second time
    the other is not trained again.
    """
    places = {"small": {"train.batch_size": 32}, "too much": {"train.batch_size": 97}}
    study_of(tmp_path, grid={"batch": places}, x="batch", seeds=[0])
    assert sweep.main(arguments(tmp_path, files)) == 1
    wanted = (
        "failed: batch too much, seed 0: status 2: simclr: train.batch_size: the loader yields no "
        "batches, because the training file has fewer than 97 images"
    )
    assert wanted in capsys.readouterr().err
    ((place, seed, knn),) = [row[:3] for row in rows_of(tmp_path / "out")[1:]]
    result = json.loads(
        (tmp_path / "out" / "cells" / "batch=small,seed=0" / "result.json").read_text()
    )
    assert (place, seed, float(knn)) == ("small", "0", result["scores"]["knn"])
    assert result["steps"] == 3
    study_of(tmp_path, grid={"batch": {"small": places["small"]}}, x="batch", seeds=[0])
    assert sweep.main(arguments(tmp_path, files)) == 0
    assert "[1/1] batch small, seed 0: finished before" in capsys.readouterr().out


def test_sweep__ctrl_c_stops_the_cell_politely_and_the_same_command_resumes_it(
    files, tmp_path, capsys
):
    """SIGINT ends the sweep with 130, the cell with a checkpoint; the next sweep trains the
    remaining steps, each once.
    """
    study_of(
        tmp_path,
        grid={"loss.temperature": [0.5]},
        seeds=[0],
        set={"train.epochs": EPOCHS, "train.batch_size": 32},
    )
    command = [
        sys.executable,
        "-m",
        "ffcv_ssl.recipes.sweep",
        *arguments(tmp_path, files, **{"log.every": 1}),
    ]
    cell = tmp_path / "out" / "cells" / "temperature=0.5,seed=0"
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline and len(read_rows(cell / "train.csv")) < 3:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "stopped by SIGINT, 0 of 1 cells are finished" in errors
    assert "--train.resume=1 continues" in (cell / "log.txt").read_text()
    assert not (cell / "result.json").exists()
    assert 3 <= read_rows(cell / "train.csv")[-1]["step"] < 3 * EPOCHS

    assert sweep.main(arguments(tmp_path, files, **{"log.every": 1})) == 0
    assert "seed 0: resumed" in capsys.readouterr().out
    assert [row["step"] for row in read_rows(cell / "train.csv")] == list(range(1, 3 * EPOCHS + 1))


@pytest.mark.parametrize("name", study_names())
def test_study__every_cell_is_accepted_by_its_program(name, tmp_path):
    """Each study's cells parse with its own recipes, and with the ones for CPUs that its comment
    names.
    """
    study = read_study(name)
    head = comments_of(name)
    bases = [
        word.partition("=")[2]
        for word in " ".join(head).split()
        if word.startswith("--sweep.base=")
    ]
    for chosen in ("", *bases):
        cells = make_cells(
            study, tmp_path, chosen, {"data.train": "train.beton", "data.val": "val.beton"}
        )
        assert len(cells) == len(study.points()) * len(study.seeds)


@pytest.mark.parametrize("name", study_names())
def test_study__opens_with_its_command_and_its_cost(name):
    """The first line is the command; then come the source, the cost with the right number of runs,
    the result and the CPU recipe.
    """
    head, study = comments_of(name), read_study(name)
    assert head[0] == f"# ffcv-ssl sweep {name} --data.train=train.beton --data.val=val.beton"
    assert head[1].startswith("# reproduces: ")
    _, cost = "".join(line.removeprefix("#") for line in head).split(" cost: ")
    cost, result = cost.split("; result: ")
    assert f"({len(study.points()) * len(study.seeds)} runs" in cost
    assert name.endswith("_cpu") or " on a CPU: --sweep.base=" in result


def comments_of(name):
    return [
        line for line in (STUDIES / f"{name}.yaml").read_text().splitlines() if line.startswith("#")
    ]


def test_study__emp_batch_rescales_the_invariance_with_the_coding_rate():
    """The weights follow R(B) = r/2 ln(1 + D / (eps_sq r)), r = min(B, D), to a tenth."""

    def rate(batch_size):
        rank = min(batch_size, 1024)
        return rank / 2 * math.log(1 + 1024 / (0.2 * rank))

    for batch_size, settings in read_study("emp_batch").axes["batch size"].items():
        assert settings["train.batch_size"] == batch_size
        assert settings["loss.invariance"] == pytest.approx(
            200 * rate(batch_size) / rate(100), abs=0.05
        )


def test_studies__stand_in_the_index_and_among_the_papers():
    """recipes/README.md names every study, and PAPERS.md says for which table or figure."""
    for index in ("README.md", "PAPERS.md"):
        text = (STUDIES.parent / index).read_text()
        assert [name for name in study_names() if f"`{name}`" not in text] == []
