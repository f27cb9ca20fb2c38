"""Tests of training in two processes under torchrun."""

import signal

import pytest
import torch

from ffcv_ssl.runs.record import read_rows
from ffcv_ssl.train import load_checkpoint
from ffcv_ssl.train.distributed import (
    averaged,
    highest,
    is_main,
    loader_threads,
    process_group,
    world_size,
)
from tests.reference.torchrun import torchrun
from tests.train.training_processes import EVALUATION_S, run


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    """Run two processes; return the report of each, and the folder of their runs."""
    folder = tmp_path_factory.mktemp("runs")
    done = torchrun("tests.train.training_processes", folder, "runs")
    assert done.returncode == 0, done.stderr
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)], folder


def losses(folder):
    return {row["step"]: row["loss"] for row in read_rows(folder / "train.csv")}


@pytest.mark.parametrize("name", ["simclr", "byol"])
def test_fit__two_processes_train_as_one(reports, tmp_path, name):
    """Two processes end with the weights of a single process, and log its losses."""
    (first, second), folder = reports
    alone = run(tmp_path, name)
    for key, value in alone["weights"].items():
        assert torch.equal(first[name]["weights"][key], second[name]["weights"][key]), key
        torch.testing.assert_close(first[name]["weights"][key], value, rtol=0, atol=1e-6)
    assert losses(folder / name) == pytest.approx(losses(tmp_path), abs=1e-5)
    assert [found[name]["images"] for found in (first, second, {name: alone})] == [96, 96, 96]


def test_fit__rank_0_alone_evaluates(reports):
    """Rank 0 makes two evaluations, rank 1 none."""
    (first, second), folder = reports
    assert (first["simclr"]["evaluations"], second["simclr"]["evaluations"]) == (2, 0)
    assert [row["step"] for row in read_rows(folder / "simclr" / "eval.csv")] == [0, 6]


def test_fit__signal_to_one_process_stops_all(reports):
    """A signal to rank 1 stops both; resumed, they end with the weights of the unbroken run."""
    processes, _ = reports
    for process in processes:
        assert process["signal"]["status"] == 128 + signal.SIGTERM
        assert "after step 5 of 12" in process["signal"]["stopped"]
        for key, value in process["simclr"]["weights"].items():
            assert torch.equal(process["resumed"]["weights"][key], value), key


def test_fit__loader_error_in_one_process_stops_all(reports):
    """A loader error in rank 1 stops both; resumed, they equal the unbroken run."""
    processes, _ = reports
    assert [process["loader"]["status"] for process in processes] == [1, 1]
    assert "another process could not load" in processes[0]["loader"]["stopped"]
    assert "sample 17 cannot be read" in processes[1]["loader"]["stopped"]
    assert all(
        "checkpoint.pt holds step 0" in process["loader"]["stopped"] for process in processes
    )
    for process in processes:
        for key, value in process["simclr"]["weights"].items():
            assert torch.equal(process["after_loader"]["weights"][key], value), key


def test_fit__minutes_end_all_in_one_step(reports):
    """When rank 1 reaches the time limit, both stop after the same step with the same times."""
    (first, second), _ = reports
    assert 5 <= first["slow"]["step"] < 40_000
    assert {key: first["slow"][key] for key in ("step", "seconds", "waited_s")} == {
        key: second["slow"][key] for key in ("step", "seconds", "waited_s")
    }
    assert first["slow"]["waited_s"] >= 1
    for key, value in first["slow"]["weights"].items():
        assert torch.equal(second["slow"]["weights"][key], value), key


def test_fit__waiting_for_an_evaluation_is_no_training(reports):
    """Evaluations in rank 0 do not count as training time of either process."""
    processes, _ = reports
    for process in processes:
        assert process["evaluating"]["seconds"] < EVALUATION_S
    assert processes[0]["evaluating"]["evaluation_seconds"] >= 2 * EVALUATION_S


def test_fit__infinite_loss_in_one_process_stops_all(reports):
    """An infinite loss in rank 1 stops both; the checkpoint is that of the start."""
    processes, folder = reports
    for process in processes:
        assert "the loss is not finite at step 1 of 12" in process["infinite"]["stopped"]
        assert process["infinite"]["status"] == 1
    assert load_checkpoint(folder / "infinite" / "checkpoint.pt")["progress"]["step"] == 0


def test_fit__agrees_every_few_steps(reports):
    """With log.every=10, processes agree after steps 1, 2, 4, 8, 10, … and each epoch."""
    (first, second), _ = reports
    for process in (first, second):
        # The signal came in step 6.
        assert "after step 8 of 12" in process["late_signal"]["stopped"]
        assert "checkpoint.pt holds step 0" in process["late_loader"]["stopped"]
        assert process["late_minutes"]["step"] < 40_000
    assert "another process could not load" in first["late_loader"]["stopped"]
    assert "sample 17 cannot be read" in second["late_loader"]["stopped"]
    assert {key: first["late_minutes"][key] for key in ("step", "seconds")} == {
        key: second["late_minutes"][key] for key in ("step", "seconds")
    }
    for key, value in first["late_minutes"]["weights"].items():
        assert torch.equal(second["late_minutes"]["weights"][key], value), key


def test_fit__rarely_waits_for_other_processes(reports):
    """120 steps in 30 epochs need fewer collectives than one per step."""
    for process in reports[0]:
        assert process["rare"] < 70


def test_rank_batch_size__is_divided_evenly(reports):
    """Two processes get 4 of 8 images each; 7 images raise a ConfigError."""
    (first, second), _ = reports
    assert (first["shares"], second["shares"]) == ((0, 2, 4), (1, 2, 4))
    message = "7 images cannot be divided evenly among 2 processes; give a multiple of 2."
    assert first["uneven"] == f"train.batch_size: {message}"


def test_fit__process_that_dies_ends_all(tmp_path):
    """An error in one process ends torchrun, and leaves the checkpoint of the start."""
    done = torchrun("tests.train.training_processes", tmp_path, "dies")
    assert done.returncode != 0
    assert "only process 1 fails" in done.stderr
    assert load_checkpoint(tmp_path / "dies" / "checkpoint.pt")["progress"]["step"] == 0


def test_loader_threads__are_shared_under_torchrun(monkeypatch):
    """-1 stands for all cores, divided among the processes of a machine under torchrun."""
    monkeypatch.setattr("ffcv_ssl.train.distributed.allowed_cores", lambda: 12)
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    assert [loader_threads(workers) for workers in (-1, 0, 5)] == [-1, 0, 5]
    for name, value in (
        ("RANK", "1"),
        ("WORLD_SIZE", "16"),
        ("LOCAL_RANK", "1"),
        ("LOCAL_WORLD_SIZE", "8"),
    ):
        monkeypatch.setenv(name, value)
    assert [loader_threads(workers) for workers in (-1, 0, 5)] == [1, 0, 5]
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert loader_threads(-1) == 3


def test_process_group__is_nothing_without_torchrun(monkeypatch):
    """Without torchrun, the process is the main one and agrees with itself."""
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    with process_group(torch.device("cpu")):
        assert (is_main(), world_size()) == (True, 1)
        assert highest(0.1, False, 3) == [0.1, False, 3]
        assert averaged({"loss": 0.1}) == {"loss": 0.1}
