"""Tests of labels, online probes, accuracy thresholds and Weights & Biases in a run."""

import json
import sys
from dataclasses import replace
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch

from ffcv_ssl import views
from ffcv_ssl.errors import CheckpointError, ConfigError, TrainingStopped
from ffcv_ssl.evaluate import Evaluation, OnlineProbeConfig
from ffcv_ssl.evaluate.scores import build_probes, score
from ffcv_ssl.fields import FloatField, IntField, RGBImageField
from ffcv_ssl.reader import Reader
from ffcv_ssl.runs import finish
from ffcv_ssl.runs.record import read_rows
from ffcv_ssl.ssl import (
    BarlowTwins,
    InstanceSimCLR,
    Normalize,
    OnlineProbes,
    Supervised,
    VICReg,
    resnet18,
    simclr_projector,
)
from ffcv_ssl.train import (
    DataConfig,
    EvalConfig,
    Progress,
    TrainConfig,
    frozen,
    load_checkpoint,
    match_classes,
)
from ffcv_ssl.train.progress import record_evaluation
from ffcv_ssl.train.samples import random_samples, read_labels
from ffcv_ssl.writer import DatasetWriter
from tests.reference.memory_loader import MemoryLoader
from tests.train.test_loop import Run, small_method, stop_after

METHODS = ("simclr", "emp_ssl", "byol", "barlow_twins", "vicreg", "simclr_instance", "supervised")
CPU = torch.device("cpu")


def any_method(name):
    """Return a small method by name; the weights are always the same."""
    if name in METHODS[:3]:
        return small_method(name)
    torch.manual_seed(0)
    network, normalize = (
        resnet18(width=2, stem="cifar_stride2"),
        Normalize([127.5] * 3, [127.5] * 3),
    )
    if name == "supervised":
        return Supervised(network, network.num_features, 4, normalize)
    kind = {"barlow_twins": BarlowTwins, "vicreg": VICReg, "simclr_instance": InstanceSimCLR}[name]
    method = kind(network, simclr_projector(network.num_features, 16, 8), normalize)
    method.views_per_forward = 1
    return method


class ProbedRun(Run):
    """A run of any method, with probes on all layers by default."""

    def __init__(self, folder, name="simclr", has_probes=True, **options):
        super().__init__(folder, name if name in METHODS[:3] else "simclr", **options)
        self.method = any_method(name)
        self.optimizer = type(self.optimizer)(self.method.parameters(), lr=0.05)
        self.optimizer.param_groups[0]["initial_lr"] = 0.05
        self.probes = (
            OnlineProbes(self.method, 4, nonlinear=True, layers=True, hidden=8, lr=0.01)
            if has_probes
            else None
        )

    def fit(self, **options):
        return super().fit(probes=self.probes, **options)


def probe_columns(folder):
    """Return the columns of the probes in train.csv."""
    return [
        [value for name, value in row.items() if name.startswith("online")]
        for row in read_rows(folder / "train.csv")
    ]


@pytest.mark.parametrize("name", METHODS)
def test_fit__probes_do_not_change_the_training(tmp_path, name):
    """Losses and weights with probes equal those without, and the losses of the probes fall."""
    plain, probed = (
        ProbedRun(tmp_path / "plain", name, has_probes=False),
        ProbedRun(tmp_path / "probed", name),
    )
    for run in (plain, probed):
        torch.manual_seed(7)  # noise of simclr_instance
        run.fit()
    assert plain.rows() == probed.rows()
    for key, value in plain.method.state_dict().items():
        assert torch.equal(value, probed.method.state_dict()[key]), key
    first, last = (read_rows(tmp_path / "probed" / "train.csv")[i] for i in (0, -1))
    assert last["online_mlp_loss"] < first["online_mlp_loss"]
    assert probe_columns(tmp_path / "plain")[0] == []


@pytest.mark.parametrize("name", ["simclr", "supervised"])
def test_fit__resumes_probes_bit_for_bit(tmp_path, name):
    """Rows and weights of the probes of a resumed run equal those of the unbroken run."""
    unbroken = ProbedRun(tmp_path / "unbroken", name)
    unbroken.fit()
    with pytest.raises(TrainingStopped):
        ProbedRun(tmp_path / "broken", name, loader=stop_after(MemoryLoader(), 6)).fit()
    second = ProbedRun(tmp_path / "broken", name, resume=True)
    second.fit()
    assert second.rows() == unbroken.rows()
    assert len(probe_columns(tmp_path / "broken")[0]) == (6 if name == "supervised" else 8)
    assert probe_columns(tmp_path / "broken") == probe_columns(tmp_path / "unbroken")
    for key, value in unbroken.probes.classifiers.state_dict().items():
        assert torch.equal(value, second.probes.classifiers.state_dict()[key]), key


def test_fit__probes_need_a_checkpoint_that_has_them(tmp_path):
    """A run started without probes cannot continue with probes."""
    with pytest.raises(TrainingStopped):
        ProbedRun(tmp_path, has_probes=False, loader=stop_after(MemoryLoader(), 6)).fit()
    with pytest.raises(CheckpointError, match="does not fit this run: 'classifiers'"):
        ProbedRun(tmp_path, resume=True).fit()


def test_fit__gives_labels_to_methods_that_use_them(tmp_path):
    """Supervised training receives (B,) int64 labels of the named field, and learns them."""
    run, seen = ProbedRun(tmp_path, "supervised", has_probes=False, epochs=20), []
    forward = run.method.forward

    def watched(views, labels):
        seen.append((labels.shape, labels.dtype))
        return forward(views, labels)

    run.method.forward = watched
    run.fit()
    assert set(seen) == {((8,), torch.int64)}
    assert sum(row[0] for row in run.rows(["accuracy"])[-4:]) / 4 > 0.75  # a quarter by chance


@pytest.mark.parametrize("has_probes", [False, True])
def test_fit__rejects_a_missing_label_field(tmp_path, has_probes):
    """A missing label field raises a ConfigError with the fields of the file."""
    with pytest.raises(
        ConfigError,
        match=r"data.label: the training file has no field 'class'.*Fields: image, label",
    ):
        ProbedRun(tmp_path, "simclr" if has_probes else "supervised", has_probes=has_probes).fit(
            label="class"
        )


class Samples:
    """Images whose gray level depends on the class; the last field holds floats."""

    def __init__(self, num_samples, first_label=0):
        self.num_samples, self.first_label = num_samples, first_label

    def __len__(self):
        return self.num_samples

    def __getitem__(self, index):
        noise = np.random.default_rng(index).integers(0, 20, (16, 16, 3), dtype=np.uint8)
        return noise + np.uint8(50 * (index % 4)), self.first_label + index % 4, 0.5


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Write files of 40 and 17 samples, and one with a negative label."""
    folder = tmp_path_factory.mktemp("data")
    fields = {"image": RGBImageField(write_mode="raw"), "label": IntField(), "weight": FloatField()}
    for name, samples in (
        ("train", Samples(40)),
        ("val", Samples(17)),
        ("negative", Samples(8, first_label=-1)),
    ):
        DatasetWriter(
            folder / f"{name}.beton", fields, num_workers=1, progress=False
        ).from_indexed_dataset(samples)
    return DataConfig(train=str(folder / "train.beton"), val=str(folder / "val.beton"), workers=0)


def test_read_labels__checks_the_file(data):
    """Labels are returned unchanged; missing fields and fields without integers raise."""
    found = read_labels(data.train, "label")
    assert found.dtype == np.int64
    assert set(found) == {0, 1, 2, 3}
    assert set(read_labels(data.train.replace("train.beton", "negative.beton"), "label")) == {
        -1,
        0,
        1,
        2,
    }
    for label, message in (
        ("class", r"train.beton has no field 'class'.*Fields: image, label, weight"),
        (
            "weight",
            r"labels must be integers, but field 'weight' of .*train.beton is a FloatField"
            r".*IntField",
        ),
        (
            "image",
            r"labels must be integers, but field 'image' of .*train.beton is a RGBImageField",
        ),
    ):
        with pytest.raises(ConfigError, match=message):
            read_labels(data.train, label)


def test_random_samples__are_seeded_and_nested(data):
    """Random samples are distinct and sorted, depend on the seed, and contain smaller subsets."""
    few, more = random_samples(data.train, 3), random_samples(data.train, 6)
    assert len(set(few)) == 3
    assert list(few) == sorted(few)
    assert set(few) < set(more)
    with Reader(data.train) as reader:
        count = reader.num_samples
    np.testing.assert_array_equal(few, random_samples(count, 3))
    assert set(random_samples(data.train, 6, seed=1)) != set(more)
    np.testing.assert_array_equal(random_samples(data.train, 10**6), np.arange(count))


def test_evaluation__learns_from_some_of_the_training_images(data):
    """train_images selects random training images and leaves the validation file complete."""
    with Evaluation(data, EvalConfig(train_images=5), views.plain(8), CPU) as evaluation:
        some = evaluation.features(lambda images: images.float().flatten(1))
    with Evaluation(data, EvalConfig(), views.plain(8), CPU) as evaluation:
        whole = evaluation.features(lambda images: images.float().flatten(1))
    chosen = torch.from_numpy(random_samples(data.train, 5))
    assert torch.equal(some.train, whole.train[chosen])
    assert torch.equal(some.train_labels, whole.train_labels[chosen])
    assert torch.equal(some.val, whole.val)


def test_evaluation__numbers_the_classes_that_occur(data):
    """Classes are indexed from 0; a label of the validation file alone becomes -1."""
    negative = data.train.replace("train.beton", "negative.beton")
    for files, numbers in (
        ({"train": negative, "val": data.val}, [1, 2, 3, -1]),
        ({"train": data.train, "val": negative}, [-1, 0, 1, 2]),
    ):
        with Evaluation(
            DataConfig(**files, workers=0), EvalConfig(), views.plain(8), CPU
        ) as evaluation:
            found = evaluation.features(lambda images: images.float().flatten(1))
        assert found.train_labels[:4].tolist() == [0, 1, 2, 3]
        assert found.val_labels[:4].tolist() == numbers


def test_build_probes__follows_the_configuration(data):
    """Probes follow the options; too few classes and too large classifiers raise."""

    def configs(classes=4, **probe):
        parts = {
            "data": data,
            "probe": OnlineProbeConfig(**probe),
            "loss": SimpleNamespace(classes=classes),
            "train": TrainConfig(epochs=1, batch_size=8),
            "view": SimpleNamespace(num_views=2),
        }
        return SimpleNamespace(**parts)

    with Reader(data.train) as reader:
        known = match_classes(reader, None, "label")
    assert build_probes(configs(), small_method("simclr"), None) is None
    assert build_probes(configs(), any_method("supervised"), known) is None
    assert list(build_probes(configs(linear=True), small_method("simclr"), known).classifiers) == [
        "online_linear"
    ]
    probes = build_probes(
        configs(linear=True, mlp=True, layers=True, hidden=6, lr=0.5), small_method("simclr"), known
    )
    assert list(probes.classifiers) == [
        "online_linear",
        "online_mlp",
        "online_linear_layer1",
        "online_linear_layer2",
    ]
    assert probes.classifiers["online_mlp"][0].out_features == 6
    assert probes.optimizer.param_groups[0]["lr"] == 0.5
    with pytest.raises(ConfigError, match=r"loss.classes=3: .*train.beton has 4 classes; give 4"):
        build_probes(configs(classes=3), any_method("supervised"), known)
    for probe in ({}, {"linear": True}):  # a million classes: 4 GB of logits for 2 x 20,000 views
        many = configs(classes=10**6, **probe)
        many.train = TrainConfig(epochs=1, batch_size=20_000)
        with pytest.raises(
            ConfigError,
            match=r"for 1,000,000 classes would take .* GB of memory.*Are the labels ids",
        ):
            build_probes(
                many,
                any_method("simclr" if probe else "supervised"),
                replace(known, labels=range(10**6)),
            )


def test_probe_config__rejects_invalid_options():
    """Values out of range, and layers without a linear classifier, raise."""
    for options, message in (
        ({"layers": True}, "probe.linear=1"),
        ({"lr": 0.0}, "positive"),
        ({"hidden": 0}, "at least 1"),
    ):
        with pytest.raises(ConfigError, match=message):
            OnlineProbeConfig(**options)


def test_score__encodes_once_and_equals_separate_passes(data):
    """Each sample passes the backbone once; all scores equal those of separate passes."""
    method = small_method("simclr")
    probes = OnlineProbes(method, 4, layers=True, seed=1)
    counts = []
    method.backbone.register_forward_hook(
        lambda _module, inputs, _output: counts.append(len(inputs[0]))
    )
    with (
        Evaluation(
            data, EvalConfig(batch_size=7, k=5), views.plain(16, ratio=1.0), CPU
        ) as evaluation,
        frozen(method),
    ):
        found = score(evaluation, method, probes, evaluation.quick)
        assert sum(counts) == 57
        alone = score(evaluation, method, None, evaluation.quick)
        features = evaluation.features(method.features)
        layer1, layer2 = method.projector[:3](features.val), method.projector(features.val)
    assert list(found) == [
        "knn",
        "rankme",
        "online_linear",
        "online_linear_layer1",
        "online_linear_layer2",
    ]
    assert found["knn"] == alone["knn"]
    assert found["rankme"] == pytest.approx(alone["rankme"], rel=1e-4)
    for place, x in (("", features.val), ("_layer1", layer1), ("_layer2", layer2)):
        right = [
            int(row.argmax()) == i % 4
            for i, row in enumerate(probes.classifiers[f"online_linear{place}"](x))
        ]
        assert found[f"online_linear{place}"] == sum(right) / 17
    with Evaluation(
        DataConfig(train=data.train), EvalConfig(), views.plain(16, ratio=1.0), CPU
    ) as evaluation:
        assert score(evaluation, method, probes, evaluation.quick) == {}


def test_record_evaluation__keeps_the_first_time_of_each_threshold():
    """A threshold keeps the training time of the first evaluation that reached it."""
    progress = Progress()
    for seconds, knn in ((1.0, 0.6), (2.0, 13 / 20), (3.0, 0.82), (4.0, 0.5), (5.0, 0.84)):
        progress.seconds = seconds
        record_evaluation(progress, {"knn": knn}, elapsed_s=0.5)
    record_evaluation(progress, {}, elapsed_s=0.5)
    assert progress.seconds_to == {65: 2.0, 80: 3.0}
    assert progress.evaluation_seconds == 3.0


def test_fit__thresholds_survive_a_resume(tmp_path):
    """Times of thresholds and evaluations survive a resume, and result.json contains them."""
    accuracies = iter([0.2, 0.66, 0.7, 0.86])

    def evaluate():
        return {"knn": next(accuracies)}

    with pytest.raises(TrainingStopped):
        Run(tmp_path, loader=stop_after(MemoryLoader(), 5)).fit(evaluate=evaluate, times=4)
    saved = load_checkpoint(tmp_path / "checkpoint.pt")["progress"]
    assert list(saved["seconds_to"]) == [65]
    second = Run(tmp_path, resume=True)
    progress = second.fit(evaluate=evaluate, times=4)
    rows = read_rows(tmp_path / "eval.csv")
    assert [row["step"] for row in rows] == [0, 3, 6, 9]
    assert progress.seconds_to == {
        65: rows[1]["seconds"],
        80: rows[3]["seconds"],
        85: rows[3]["seconds"],
    }
    spent = [row["evaluation_seconds"] for row in rows]
    assert 0 < spent[0] < spent[1] < spent[2] < spent[3] == progress.evaluation_seconds
    result = finish(
        second.record, progress, {}, device=CPU, precision="float32", num_views=2, steps_per_epoch=4
    )
    content = json.loads((tmp_path / "result.json").read_text())
    assert content["seconds_to_65"] == rows[1]["seconds"]
    assert content["view_epochs"] == 6
    assert content["evaluation_seconds"] == progress.evaluation_seconds
    assert not {"seconds_to_90", "seconds_to"} & set(content)
    assert "seconds_to_85" in result.summary()


def test_fit__a_finished_run_keeps_its_last_evaluation(tmp_path):
    """The final evaluation of a run still counts after it was extended to more epochs."""
    first = Run(tmp_path)
    progress = first.fit(evaluate=lambda: {"knn": 0.5}, times=2)
    record_evaluation(progress, {"knn": 0.9}, elapsed_s=10.0)
    finish(
        first.record,
        progress,
        {"knn": 0.9},
        device=CPU,
        precision="float32",
        num_views=2,
        steps_per_epoch=4,
    )
    continued = Run(tmp_path, resume="extend", epochs=4).fit(evaluate=lambda: {"knn": 0.5})
    assert continued.evaluation_seconds == progress.evaluation_seconds > 10
    assert continued.seconds_to == dict.fromkeys((65, 80, 85, 90), progress.seconds)
    assert continued.seconds > progress.seconds


def test_fit__evaluates_before_it_saves(tmp_path):
    """If both are due after a step, the evaluation precedes the checkpoint."""
    run = Run(tmp_path, checkpoint_minutes=0.0)
    saved = []
    run.fit(
        evaluate=lambda: (
            saved.append(load_checkpoint(tmp_path / "checkpoint.pt")["progress"]["step"])
            or {"knn": 1.0}
        ),
        times=4,
    )
    assert saved == [0, 2, 5, 8]


class FakeWandb(ModuleType):
    """An in-memory replacement of the wandb package."""

    def __init__(self):
        super().__init__("wandb")
        self.__spec__ = SimpleNamespace(name="wandb")
        self.calls, self.logged, self.finished = [], [], 0

    def init(self, **options):
        self.calls.append(options)
        return SimpleNamespace(id=options.get("id", "abc"), log=self.log, finish=self.finish)

    def log(self, values, step):
        self.logged.append((step, values))

    def finish(self):
        self.finished += 1


def test_wandb__gets_every_row_and_is_resumed(tmp_path, monkeypatch):
    """Rows arrive with their step, and a resumed run continues under the same id."""
    wandb = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    with pytest.raises(TrainingStopped):
        Run(tmp_path, loader=stop_after(MemoryLoader(), 6), wandb=True).fit(
            evaluate=lambda: {"knn": 0.25}, times=2
        )
    assert wandb.calls[0]["project"] == "ffcv_ssl"
    assert wandb.calls[0]["config"]["optim"]["lr"] == 0.05
    assert "id" not in wandb.calls[0]
    assert [step for step, _ in wandb.logged] == [0, 1, 2, 3, 4, 5, 6]
    assert wandb.logged[0][1]["eval/knn"] == 0.25
    assert wandb.logged[1][1]["train/loss"] == read_rows(tmp_path / "train.csv")[0]["loss"]
    assert wandb.finished == 1
    Run(tmp_path, resume=True, wandb=True).fit()
    assert (wandb.calls[1]["id"], wandb.calls[1]["resume"]) == ("abc", "allow")
    assert [step for step, _ in wandb.logged[7:]] == [7, 8, 9, 10, 11, 12]
    assert wandb.finished == 2


def test_wandb__must_be_installed(tmp_path, monkeypatch):
    """Without the package, log.wandb raises before the folder is created."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="pip install wandb"):
        Run(tmp_path / "run", wandb=True)
    assert not (tmp_path / "run").exists()
