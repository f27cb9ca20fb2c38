"""Tests of resuming a run with changed options."""

import logging

import pytest
import yaml

from ffcv_ssl.cli.config.parser import parse
from ffcv_ssl.errors import CheckpointError, ConfigError, TrainingStopped
from ffcv_ssl.runs.record import read_rows
from ffcv_ssl.runs.resume import check_resume
from ffcv_ssl.train import Classes, TrainConfig
from ffcv_ssl.train.classes import Numbering
from tests.reference.memory_loader import MemoryLoader
from tests.train.test_loop import Run, stop_after
from tests.train.test_online import ProbedRun


def test_resume__a_finished_run_needs_extend_for_more_epochs(tmp_path, caplog):
    """More epochs for a finished run raise, twice alike; with `extend` they warn, once."""
    Run(tmp_path).fit()
    before = (tmp_path / "config.yaml").read_bytes()
    for _ in range(2):
        with pytest.raises(
            ConfigError,
            match=r"finished after 3 epochs.*train.epochs=6 instead of 3.*at 69% of its peak, "
            r"after 0%.*resume=extend",
        ):
            Run(tmp_path, resume=True, epochs=6)
    assert (tmp_path / "config.yaml").read_bytes() == before
    with caplog.at_level(logging.WARNING, "ffcv_ssl"), pytest.raises(TrainingStopped):
        Run(tmp_path, resume="extend", epochs=6, loader=stop_after(MemoryLoader(), 15)).fit()
    assert "the learning rate continues at 69% of its peak" in caplog.text
    assert Run(tmp_path, resume=True, epochs=6).fit().step == 24
    rates = [row["lr"] for row in read_rows(tmp_path / "train.csv")]
    assert rates[11] < 0.03 * 0.05
    assert rates[12] == pytest.approx(0.69 * 0.05, rel=0.01)


def test_resume__a_finished_run_is_never_shortened(tmp_path):
    """Fewer epochs for a finished run raise, even with `extend`."""
    Run(tmp_path).fit()
    for resume in (True, "extend"):
        with pytest.raises(ConfigError, match=r"finished after 3 epochs.*no step is left to train"):
            Run(tmp_path, resume=resume, epochs=2)
    assert Run(tmp_path, resume=True).fit().step == 12


def test_resume__minutes_are_a_length_too(tmp_path):
    """A run that ended at its time limit needs `extend` for more minutes."""
    Run(tmp_path, minutes=1e-9).fit()
    with pytest.raises(ConfigError, match=r"train.minutes=60.0 instead of 1e-09.*resume=extend"):
        Run(tmp_path, resume=True, minutes=60.0)
    assert Run(tmp_path, resume="extend", minutes=60.0).fit().step == 12


def test_resume__a_stopped_run_may_become_longer_with_a_warning(tmp_path, caplog):
    """More epochs for a stopped run warn; a length that would end it at once raises."""
    with pytest.raises(TrainingStopped):
        Run(tmp_path, loader=stop_after(MemoryLoader(), 8)).fit()
    with caplog.at_level(logging.WARNING, "ffcv_ssl"):
        Run(tmp_path, resume=True)
        assert caplog.messages == []
        Run(tmp_path, resume=True, epochs=4)
    (longer,) = caplog.messages
    assert "stopped after 2 epochs" in longer
    assert (
        "train.epochs=4 instead of 3, the learning rate continues at 69% of its peak, after 37%"
        in longer
    )
    with pytest.raises(
        ConfigError, match=r"stopped after 2 epochs.*no step is left to train.*ffcv-ssl probe"
    ):
        Run(tmp_path, resume=True, epochs=2)


@pytest.mark.parametrize(
    ("section", "option", "is_free"),
    [
        ("data", "image", False),
        ("data", "val", True),
        ("data", "label", True),
        ("optim", "lr", False),
        ("eval", "k", True),
        ("train", "seed", False),
    ],
)
def test_check_resume__compares_what_decides_the_weights(tmp_path, section, option, is_free):
    """Options that affect the weights must not change; options of the evaluation may."""
    (tmp_path / "config.yaml").write_text(
        yaml.safe_dump({"method": "simclr", section: {option: "a"}})
    )
    now = {section: {option: "b"}}
    if is_free:
        check_resume(tmp_path, "simclr", now, True)
    else:
        with pytest.raises(ConfigError, match=rf"started with {section}.{option}=a, not b"):
            check_resume(tmp_path, "simclr", now, True)


@pytest.mark.parametrize(
    "text", ["a: [", "[" * 5000, "method: simclr\ntrain: 7", "method: 3", "\x00"]
)
def test_check_resume__damaged_configuration_is_named(tmp_path, text):
    """A damaged config.yaml raises a ConfigError with its path."""
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"config.yaml: "):
        check_resume(tmp_path, "simclr", {"train": {"epochs": 1}}, True)


@pytest.mark.parametrize("text", ["step,loss\n1,abc\n", "step,loss\n1,2,3\n", "a\x00b\n\x00,\n"])
def test_resume__damaged_table_is_named(tmp_path, text):
    """A train.csv with words, long rows or null bytes raises a ConfigError with its path."""
    Run(tmp_path, epochs=1).fit()
    (tmp_path / "train.csv").write_text(text)
    with pytest.raises(ConfigError, match=r"train.csv: not a table"):
        Run(tmp_path, epochs=1, resume=True).fit()


def test_resume__classifiers_go_on_with_their_classes_only(tmp_path):
    """Probes trained on the labels of one field cannot continue with those of another."""

    def classes(field, labels):
        tables = (MemoryLoader().labels.unique().numpy(),) * 2
        return Classes(field, labels, None, Numbering(*tables), None, ())

    with pytest.raises(TrainingStopped):
        ProbedRun(tmp_path, loader=stop_after(MemoryLoader(), 6)).fit(
            classes=classes("label", [0, 1, 2, 3])
        )
    with pytest.raises(
        CheckpointError,
        match=r"trained on 4 classes of the field 'label', "
        r"but the field 'coarse' has 4 other classes",
    ):
        ProbedRun(tmp_path, resume=True).fit(classes=classes("coarse", [0, 1, 2, 3]))
    ProbedRun(tmp_path, resume=True).fit(classes=classes("label", [0, 1, 2, 3]))


@pytest.mark.parametrize(
    ("text", "value"), [("0", False), ("1", True), ("true", True), ("extend", "extend")]
)
def test_resume__is_read_from_flags_and_files(tmp_path, text, value):
    """0, 1, extend and the booleans of YAML are accepted; other values raise with the choices."""
    config = tmp_path / "config.yaml"
    config.write_text(f"train: {{epochs: 1, batch_size: 2, resume: {text}}}\n")
    assert (
        parse("test", {"train": TrainConfig}, [f"--config-file={config}"])["train"].resume == value
    )
    found = parse(
        "test",
        {"train": TrainConfig},
        ["--train.epochs=1", "--train.batch_size=2", f"--train.resume={text}"],
    )["train"].resume
    assert (found, type(found)) == (value, type(value))
    with pytest.raises(ConfigError, match="wanted one of 0, 1, extend"):
        parse(
            "test",
            {"train": TrainConfig},
            ["--train.epochs=1", "--train.batch_size=2", "--train.resume=yes"],
        )
