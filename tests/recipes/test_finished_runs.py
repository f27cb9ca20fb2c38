"""What can be done with a finished run: probe, finetune, export, map. As a user does, on tiny
runs.
"""

import json

import numpy as np
import pytest
import torch

from ffcv_ssl.cli.main import main
from ffcv_ssl.evaluate import PROTOCOLS
from ffcv_ssl.fields import IntField, RGBImageField
from ffcv_ssl.recipes import emp_ssl, simclr, supervised
from ffcv_ssl.runs.record import read_rows
from ffcv_ssl.ssl import resnet18
from ffcv_ssl.train import load_checkpoint
from ffcv_ssl.writer import DatasetWriter

TINY = [
    *(
        "--optim.name=sgd",
        "--optim.lr=0.05",
        "--train.epochs=2",
        "--train.batch_size=16",
        "--train.device=cpu",
        "--train.threads=1",
    ),
    *(
        "--view.size=16",
        "--model.width=4",
        "--model.stem=cifar_stride2",
        "--loss.hidden=16",
        "--loss.out=8",
        "--data.workers=0",
    ),
    *("--eval.linear_epochs=5", "--log.tensorboard=0", "--log.progress=0"),
]
KEEP_COLORS = [
    "--view.jitter=0",
    "--view.gray=0",
    "--view.blur=0",
]  # the classes differ in color, which jitter hides
EMP = ["--view.num_views=3", "--view.patch=8", "--view.image_size=16", "--bag.patches=4"]
FAST = ["--probe.views=4", "--probe.epochs=5", "--probe.device=cpu"]


class Colors:
    """Four overlapping classes: gray, or more of one color."""

    def __init__(self, num_samples, seed):
        self.num_samples, self.seed = num_samples, seed

    def __len__(self):
        return self.num_samples

    def __getitem__(self, index):
        generator, label = np.random.default_rng((self.seed, index)), index % 4
        color = 110 + generator.normal(0, 20, 3) + (60 * np.eye(3)[label - 1] if label else 0)
        return (color + generator.normal(0, 20, (16, 16, 3))).clip(0, 255).astype(np.uint8), label


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder with a SimCLR and an EMP-SSL run, their files, and two files more of fewer images."""  # noqa: E501
    folder = tmp_path_factory.mktemp("finished")
    for name, num_samples, seed in (
        ("train", 90, 0),
        ("val", 40, 1),
        ("other", 50, 2),
        ("other_val", 30, 3),
    ):
        fields, metadata = (
            {"image": RGBImageField("raw"), "label": IntField()},
            {"class_names": ["gray", "red", "green", "blue"]},
        )
        writer = DatasetWriter(
            folder / f"{name}.beton", fields, num_workers=1, metadata=metadata, progress=False
        )
        writer.from_indexed_dataset(Colors(num_samples, seed))
    files = [f"--data.train={folder / 'train.beton'}", f"--data.val={folder / 'val.beton'}"]
    threads = torch.get_num_threads()
    try:
        assert simclr.main([*files, *TINY, *KEEP_COLORS, f"--log.out={folder / 'simclr'}"]) == 0
        assert emp_ssl.main([*files, *TINY, *EMP, f"--log.out={folder / 'emp_ssl'}"]) == 0
    finally:
        torch.set_num_threads(threads)
    return folder


def scores(run):
    return json.loads((run / "result.json").read_text())["scores"]


def entries(run, file="probe.json"):
    return {
        (entry.get("protocol"), entry["labels"], entry["train_file"]): entry
        for entry in json.loads((run / file).read_text())
    }


def test_run__ends_with_its_backbone_and_its_spread(runs):
    """The exported weights are those of the checkpoint, and the result holds alignment, uniformity
    and rank of the embeddings.
    """
    weights = torch.load(runs / "simclr" / "backbone.pt", weights_only=True)
    trained = load_checkpoint(runs / "simclr" / "checkpoint.pt")["method"]
    assert all(torch.equal(value, trained[f"backbone.{name}"]) for name, value in weights.items())
    resnet18(4, "cifar_stride2").load_state_dict(weights)
    found = scores(runs / "simclr")
    assert 0 < found["alignment"] < 4
    assert found["uniformity"] < 0
    assert 1 <= found["rankme_z"] <= 8


def test_probe__repeats_what_the_run_measured(runs, capsys):
    """Whole images and kNN give the run's own scores; EMP-SSL's protocol with as many patches
    gives its bag scores.
    """
    assert main(["probe", str(runs / "simclr"), *FAST]) == 0
    table = capsys.readouterr().out.splitlines()
    assert table[0].split() == [
        "protocol",
        "features",
        "views",
        "augmentation",
        "classifier",
        "train",
        "test",
        "(best)",
        "s",
    ]
    found, path = scores(runs / "simclr"), str(runs / "train.beton")
    linear, knn = (entries(runs / "simclr")[name, 1.0, path] for name in ("whole_image", "knn_a"))
    assert (linear["test"], linear["best"], linear["train"]) == (
        found["linear"],
        found["linear_best"],
        found["linear_train"],
    )
    assert knn["test"] == found["knn"]
    assert (knn["steps"], knn["epochs"], knn["num_train"], knn["num_val"]) == (10, 2, 90, 40)
    assert f"{100 * linear['test']:.2f} ({100 * linear['best']:.2f})" in table[1]

    assert main(["probe", str(runs / "emp_ssl"), "--probe.protocol=emp_paper", *FAST]) == 0
    bag, found = entries(runs / "emp_ssl")["emp_paper", 1.0, path], scores(runs / "emp_ssl")
    assert (bag["test"], bag["best"], bag["train"]) == (
        found["bag_linear"],
        found["bag_linear_best"],
        found["bag_linear_train"],
    )
    assert (bag["num_features"], bag["views"]) == (16, 4)


def test_probe__all_protocols_few_labels_other_files(runs):
    """Every protocol runs for every method; labels and files are told apart; measuring again
    replaces the entry.
    """
    run = runs / "emp_ssl"
    assert main(["probe", str(run), "--probe.protocol=all", *FAST]) == 0
    path = str(runs / "train.beton")
    assert {key for key in entries(run) if key[1:] == (1.0, path)} == {
        (name, 1.0, path) for name in PROTOCOLS
    }
    assert entries(run)["emp_grid", 1.0, path]["views"] == 81
    assert entries(run)["whole_image", 1.0, path]["num_features"] == 32
    assert (
        main(["probe", str(runs / "simclr"), "--probe.protocol=emp_clean,emp_paper", *FAST]) == 0
    )  # SimCLR under EMP-SSL's protocol
    assert entries(runs / "simclr")["emp_paper", 1.0, path]["num_features"] == 32

    other = [f"--data.train={runs / 'other.beton'}", f"--data.val={runs / 'other_val.beton'}"]
    before = len(json.loads((run / "probe.json").read_text()))
    for _ in range(2):
        assert main(["probe", str(run), "--probe.protocol=knn_a", *FAST, *other]) == 0
        assert main(["probe", str(run), "--probe.protocol=knn_a", "--probe.labels=0.2", *FAST]) == 0
    assert len(json.loads((run / "probe.json").read_text())) == before + 2
    assert (
        main(["probe", str(run), "--probe.protocol=mlp", *FAST, "--probe.epochs=3"]) == 0
    )  # other epochs: another measurement
    assert len(json.loads((run / "probe.json").read_text())) == before + 3
    assert entries(run)["knn_a", 1.0, str(runs / "other.beton")]["num_val"] == 30
    assert 10 < entries(run)["knn_a", 0.2, path]["num_train"] < 26


def test_keep__weights_of_an_epoch_can_be_evaluated_later(runs, tmp_path, capsys):
    """The weights kept after epoch 1 of 2 have the kNN accuracy that was seen there, those after
    epoch 2 are the checkpoint's.
    """
    run = tmp_path / "run"
    files = [f"--data.train={runs / 'train.beton'}", f"--data.val={runs / 'val.beton'}"]
    assert (
        simclr.main(
            [
                *files,
                *TINY,
                "--train.epochs=2",
                "--train.keep=1,2",
                "--eval.times=2",
                f"--log.out={run}",
            ]
        )
        == 0
    )
    last = load_checkpoint(run / "checkpoint.pt")["method"]
    kept = [load_checkpoint(run / f"epoch_{epoch}.pt") for epoch in (1, 2)]
    assert [content["progress"]["step"] for content in kept] == [5, 10]
    assert all(torch.equal(value, last[name]) for name, value in kept[1]["method"].items())
    assert main(["probe", str(run), "--run.epoch=1", "--probe.protocol=knn_a", *FAST]) == 0
    (entry,) = json.loads((run / "probe.json").read_text())
    row = next(row for row in read_rows(run / "eval.csv") if row["epoch"] == 1)
    assert (entry["epochs"], entry["steps"], entry["test"]) == (1, 5, row["knn"])
    assert entry["training_seconds"] == pytest.approx(row["seconds"])
    assert main(["probe", str(run), "--run.epoch=7", *FAST]) == 2
    assert "epoch_7.pt" in capsys.readouterr().err


def test_probe__exported_backbone_is_evaluated_alike(runs, tmp_path):
    """The safetensors file alone gives the run's kNN; what needs the training's views is refused,
    as are missing files.
    """
    safe = tmp_path / "backbone.safetensors"
    safe.write_bytes((runs / "simclr" / "backbone.safetensors").read_bytes())
    files = [
        f"--data.train={runs / 'train.beton'}",
        f"--data.val={runs / 'val.beton'}",
        "--data.workers=0",
    ]
    assert main(["probe", str(safe), "--probe.protocol=knn_a", *FAST, *files]) == 0
    assert (
        entries(tmp_path)["knn_a", 1.0, str(runs / "train.beton")]["test"]
        == scores(runs / "simclr")["knn"]
    )
    assert main(["probe", str(safe), "--probe.protocol=emp_paper", *FAST, *files]) == 2


def test_commands__say_what_is_wrong_in_one_line(runs, tmp_path, capsys):
    """No run, half of the files, and an export of an export end with status 2 and a sentence,
    without a table.
    """
    run = str(runs / "simclr")
    for arguments, sentence in (
        (["probe", str(tmp_path / "nowhere")], "neither the folder of a run"),
        (["probe", str(tmp_path)], "not a run folder"),
        (["probe", run, "--data.train=x.beton"], "data.train and data.val go together"),
        (["probe", run, "--probe.protocol=knn"], "no protocol 'knn'"),
        (["probe", f"{run}/backbone.safetensors"], "give data.train and data.val"),
        (["finetune", f"{run}/backbone.safetensors"], "give data.train and data.val"),
        (["export", f"{run}/backbone.safetensors"], "this is an exported backbone"),
    ):
        capsys.readouterr()
        assert main(arguments) == 2
        printed = capsys.readouterr()
        assert sentence in printed.err.splitlines()[-1]
        assert printed.out == ""


def test_export__writes_what_the_run_wrote(runs):
    """The command makes the same weights and metadata from the checkpoint."""
    from safetensors import safe_open

    folder = runs / "emp_ssl"
    before = (folder / "backbone.pt").read_bytes()
    with safe_open(folder / "backbone.safetensors", "pt") as file:
        metadata = file.metadata()
    for name in ("backbone.pt", "backbone.safetensors"):
        (folder / name).unlink()
    assert main(["export", str(folder)]) == 0
    assert (folder / "backbone.pt").read_bytes() == before
    with safe_open(folder / "backbone.safetensors", "pt") as file:
        assert file.metadata() == metadata
    assert (
        metadata["architecture"],
        metadata["width"],
        metadata["method"],
        metadata["epochs"],
    ) == ("resnet18", "4", "emp_ssl", "2")


def test_finetune__learns_from_labels_and_leaves_the_run_alone(runs, capsys):
    """With labels the training images are learned; the run's checkpoint stays; few labels mean few
    images; repeating replaces.
    """
    run = runs / "simclr"
    before = (run / "checkpoint.pt").read_bytes()
    options = ["--finetune.device=cpu", "--finetune.batch_size=32", "--finetune.precision=float32"]
    for _ in range(2):
        assert (
            main(["finetune", str(run), *options, "--finetune.epochs=15", "--finetune.lr=0.05"])
            == 0
        )
    assert (
        main(
            [
                "finetune",
                str(run),
                *options,
                "--finetune.epochs=1",
                "--finetune.labels=0.2",
                "--finetune.optimizer=adamw",
            ]
        )
        == 0
    )
    assert len(json.loads((run / "finetune.json").read_text())) == 2
    path = str(runs / "train.beton")
    all_labels, few = (
        entries(run, "finetune.json")[None, 1.0, path],
        entries(run, "finetune.json")[None, 0.2, path],
    )
    assert all_labels["train"] > 0.6
    assert all_labels["test"] > 0.6
    assert (all_labels["num_train"], all_labels["num_val"], all_labels["finetune_steps"]) == (
        90,
        40,
        30,
    )
    assert (all_labels["num_classes"], all_labels["remarks"]) == (4, [])
    assert 10 < few["num_train"] < 26
    assert few["finetune_steps"] == 1
    losses = [row["loss"] for row in read_rows(run / "finetune" / "labels_1_seed_0" / "train.csv")]
    assert np.mean(losses[-1:]) < losses[0]
    assert (run / "checkpoint.pt").read_bytes() == before
    assert "fine-tuned on" in capsys.readouterr().out


def test_embedding_map__draws_runs_side_by_side(runs, tmp_path, capsys):
    """A picture of two runs is written; too large a perplexity is refused in a sentence."""
    pytest.importorskip("sklearn")
    from ffcv_ssl.recipes import embedding_map

    out = tmp_path / "map.png"
    arguments = [str(runs / "simclr"), str(runs / "emp_ssl"), f"--out={out}", "--map.device=cpu"]
    assert embedding_map.main([*arguments, "--map.perplexity=5", "--map.samples=30"]) == 0
    assert out.read_bytes()[:4] == b"\x89PNG"
    assert "30 validation images, 2 run(s)" in capsys.readouterr().out
    assert embedding_map.main([*arguments, "--map.perplexity=50"]) == 2
    assert "perplexity is less than the number of images, 40" in capsys.readouterr().err


NAMES = ["gray", "red", "green", "blue"]


class Labeled(Colors):
    """The same images with other labels, of chosen classes only."""

    def __init__(self, num_samples, seed, labels):
        super().__init__(num_samples, seed)
        self.labels = labels
        self.chosen = [i for i in range(num_samples) if labels[i % 4] is not None]

    def __len__(self):
        return len(self.chosen)

    def __getitem__(self, index):
        image, label = super().__getitem__(self.chosen[index])
        return image, self.labels[label]


@pytest.fixture(scope="module")
def relabelled(runs):
    """Copies of the run's files: under ids of a billion, without the gray class and numbered anew,
    and with a class more.
    """
    fields = {"image": RGBImageField("raw"), "label": IntField()}
    ids, fewer, more = [900_000_007, -3, 900_000_000, 2**40], [None, 2, 0, 1], [0, 1, 2, 4]
    for name, labels, names in (
        ("ids", ids, None),
        ("fewer", fewer, ["green", "blue", "red"]),
        ("more", more, [*NAMES[:3], "x", "teal"]),
    ):
        for part, num_samples, seed in (("train", 90, 0), ("val", 40, 1)):
            metadata = {} if names is None else {"class_names": names}
            writer = DatasetWriter(
                runs / f"{name}_{part}.beton",
                fields,
                num_workers=0,
                metadata=metadata,
                progress=False,
            )
            writer.from_indexed_dataset(Labeled(num_samples, seed, labels))
    return runs


def files_of(folder, train, val):
    return [
        f"--data.train={folder / train}.beton",
        f"--data.val={folder / val}.beton",
        "--data.workers=0",
    ]


def test_probe__ids_give_the_scores_of_numbers(relabelled, capsys):
    """Ids of a billion and negative ones, in both files, are classified as well as labels 0 to 3,
    by kNN exactly so.
    """
    run = relabelled / "simclr"
    for train, val in (("train", "val"), ("ids_train", "ids_val")):
        assert (
            main(
                [
                    "probe",
                    str(run),
                    "--probe.protocol=whole_image,knn_a",
                    *FAST,
                    *files_of(relabelled, train, val),
                ]
            )
            == 0
        )
    found = entries(run)
    plain, ids = (
        found["knn_a", 1.0, str(relabelled / f"{name}.beton")] for name in ("train", "ids_train")
    )
    assert ids["test"] == plain["test"]
    assert ids["num_classes"] == 4
    assert any("negative labels (-3)" in remark for remark in ids["remarks"])
    assert found["whole_image", 1.0, str(relabelled / "ids_train.beton")]["test"] > 0.4


def test_probe__matches_classes_by_name(relabelled, caplog):
    """A validation file without one class, whose labels mean others, has kNN's accuracy on these
    images, and both facts are reported.
    """
    run, train = relabelled / "simclr", str(relabelled / "train.beton")
    with caplog.at_level("WARNING", "ffcv_ssl"):
        assert (
            main(
                [
                    "probe",
                    str(run),
                    "--probe.protocol=knn_a",
                    *FAST,
                    *files_of(relabelled, "train", "fewer_val"),
                ]
            )
            == 0
        )
    entry = next(
        entry
        for entry in json.loads((run / "probe.json").read_text())
        if entry["val_file"].endswith("fewer_val.beton")
    )
    assert entry["train_file"] == train
    assert entry["test"] > 0.6
    assert "they are matched by class name" in caplog.text
    assert "has no image of class 'gray', of 4 classes" in caplog.text


@pytest.mark.parametrize("command", ["train", "probe", "finetune"])
def test_commands__refuse_classes_that_the_training_file_does_not_know(
    relabelled, tmp_path, capsys, command
):
    """A class of the validation file that the training file does not name ends with status 2 and
    one line, before anything is trained.
    """
    files = files_of(relabelled, "train", "more_val")
    if command == "train":
        status = simclr.main([*files, *TINY, f"--log.out={tmp_path / 'run'}"])
    else:
        status = main([command, str(relabelled / "simclr"), *files])
    assert status == 2
    assert "does not have: 'teal'" in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "run").exists()


def test_finetune__learns_ids(relabelled):
    """The classifier has as many classes as occur, and learns them."""
    run, options = (
        relabelled / "simclr",
        [
            "--finetune.device=cpu",
            "--finetune.epochs=15",
            "--finetune.lr=0.05",
            "--finetune.batch_size=32",
        ],
    )
    assert (
        main(["finetune", str(run), *options, *files_of(relabelled, "ids_train", "ids_val")]) == 0
    )
    entry = entries(run, "finetune.json")[None, 1.0, str(relabelled / "ids_train.beton")]
    assert entry["num_classes"] == 4
    assert entry["test"] > 0.6
    weights = load_checkpoint(run / "finetune" / "labels_1_seed_0" / "checkpoint.pt")
    assert weights["method"]["projector.weight"].shape[0] == 4
    assert weights["classes"] == {
        "field": "label",
        "labels": [-3, 900_000_000, 900_000_007, 2**40],
        "names": None,
    }


def test_supervised__learns_ids_with_probes_beside_it(relabelled, tmp_path):
    """Supervised training and online probes take ids too; their scores are those of the classes;
    the result says how many there are.
    """
    tiny = [option for option in TINY if not option.startswith(("--loss.", "--train.epochs"))]
    more = [
        "--loss.classes=4",
        "--train.epochs=12",
        "--view.num_views=1",
        "--probe.linear=1",
        "--probe.lr=0.05",
        f"--log.out={tmp_path}",
    ]
    assert (
        supervised.main([*files_of(relabelled, "ids_train", "ids_val"), *tiny, *KEEP_COLORS, *more])
        == 0
    )
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["scores"]["accuracy"] > 0.5
    assert result["scores"]["online_linear"] > 0.5
    assert result["num_classes"] == 4
    assert any("negative labels" in remark for remark in result["remarks"])


def test_train__validation_file_that_is_the_training_file_is_reported(
    runs, tmp_path, capsys, caplog
):
    """The warning stands at the start, in the summary at the end and in result.json."""
    more = ["--train.epochs=1", "--eval.linear_epochs=0", f"--log.out={tmp_path}"]
    assert simclr.main([*files_of(runs, "train", "train"), *TINY, *more]) == 0
    assert "is the same file as" in caplog.text
    assert "note: " in capsys.readouterr().out
    (remark,) = json.loads((tmp_path / "result.json").read_text())["remarks"]
    assert remark in caplog.messages


@pytest.mark.parametrize("text", ["", "[1, 2", "[" * 5000, "7", '{"protocol": 1}', "[3]"])
def test_probe__damaged_entries_are_named(runs, tmp_path, capsys, text):
    """A probe.json that no command wrote ends with one line that names it, and stays as it is."""
    safe = tmp_path / "backbone.safetensors"
    safe.write_bytes((runs / "simclr" / "backbone.safetensors").read_bytes())
    (tmp_path / "probe.json").write_text(text)
    assert (
        main(["probe", str(safe), "--probe.protocol=knn_a", *FAST, *files_of(runs, "train", "val")])
        == 2
    )
    assert "probe.json: not " in capsys.readouterr().err.splitlines()[-1]
    assert (tmp_path / "probe.json").read_text() == text


def test_embedding_map__a_class_has_one_colour_whatever_its_number(tmp_path, monkeypatch):
    """Classes of several files are drawn by name: equal names share a color, different names of
    one label do not.
    """
    from matplotlib.axes import Axes

    from ffcv_ssl.recipes.embedding_map import draw, label_names

    assert label_names(["a", "b"], np.array([1, -1, 0, 10**9, 1])) == {
        -1: "-1",
        0: "a",
        1: "b",
        10**9: "1000000000",
    }
    drawn, scatter = [], Axes.scatter
    monkeypatch.setattr(
        Axes,
        "scatter",
        lambda self, *args, **kw: drawn.append(kw["color"]) or scatter(self, *args, **kw),
    )
    points = np.zeros((4, 2))
    draw(
        [
            ("one", points, np.array([0, 0, 1, 1]), {0: "a", 1: "b"}),
            ("two", points, np.array([0, 0, 1, 1]), {0: "b", 1: "c"}),
        ],
        tmp_path / "m.png",
    )
    assert len(drawn) == 4  # a, b; b, c
    assert drawn[1] == drawn[2]
    assert len(set(drawn)) == 3
