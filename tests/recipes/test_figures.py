"""The picture of several runs."""

import csv

import pytest
from matplotlib.figure import Figure

from ffcv_ssl.recipes import figures

PNG = b"\x89PNG\r\n\x1a\n"


def run_folder(folder, rows, columns=("step", "epoch", "seconds", "knn")):
    folder.mkdir()
    with (folder / "eval.csv").open("w", newline="") as file:
        csv.writer(file).writerows([columns, *rows])
    return folder


@pytest.fixture
def drawn(monkeypatch):
    """Figures, as they were when they were saved."""
    found, savefig = [], Figure.savefig
    monkeypatch.setattr(
        Figure,
        "savefig",
        lambda self, *args, **kwargs: (found.append(self), savefig(self, *args, **kwargs)),
    )
    return found


def test_convergence__draws_accuracy_over_epochs_and_minutes(tmp_path, drawn, capsys):
    """One line for each run in each panel: percent over epochs at the left, over minutes at the
    right.
    """
    fast = run_folder(tmp_path / "fast", [(0, 0, 0, 0.1), (50, 1, 60, 0.5)])
    slow = run_folder(tmp_path / "slow", [(0, 0, 0, 0.1), (50, 2, 600, 0.7)])
    assert (
        figures.main(["convergence", str(fast), f"Slow one={slow}", f"--out={tmp_path / 'a.png'}"])
        == 0
    )
    assert (tmp_path / "a.png").read_bytes()[:8] == PNG
    by_epoch, by_minute = drawn[0].axes
    assert [line.get_label() for line in by_epoch.lines] == ["fast", "Slow one"]
    assert [line.get_xydata().tolist() for line in by_epoch.lines] == [
        [[0, 10], [1, 50]],
        [[0, 10], [2, 70]],
    ]
    assert [line.get_xydata().tolist() for line in by_minute.lines] == [
        [[0, 10], [1, 50]],
        [[0, 10], [10, 70]],
    ]
    assert by_epoch.get_ylabel() == "kNN, %"


def test_convergence__draws_other_columns_as_they_are(tmp_path, drawn):
    """A score that is no share of samples is not turned into percent."""
    run = run_folder(
        tmp_path / "run", [(0, 0, 0, 0.1, 7)], ("step", "epoch", "seconds", "knn", "rankme")
    )
    assert (
        figures.main(["convergence", str(run), "--score=rankme", f"--out={tmp_path / 'a.png'}"])
        == 0
    )
    assert drawn[0].axes[0].lines[0].get_xydata().tolist() == [[0, 7]]
    assert drawn[0].axes[0].get_ylabel() == "rankme"


def test_convergence__says_what_is_missing(tmp_path, capsys):
    """No eval.csv, no such column, or two runs of one name: status 2 and one line."""
    run = run_folder(tmp_path / "run", [(0, 0, 0, 0.1)])
    out = f"--out={tmp_path / 'a.png'}"
    for arguments, message in (
        (
            [str(tmp_path)],
            "no 'knn' in eval.csv. Set data.val and eval.times to evaluate during training.",
        ),
        ([str(run), "--score=mlp"], "no 'mlp' in eval.csv. It has step, epoch, seconds, knn."),
        ([str(run), f"run={run}"], "two runs are called run"),
    ):
        assert figures.main(["convergence", *arguments, out]) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "a.png").exists()
