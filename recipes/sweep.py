"""Run a study: train every cell of its grid in turn, then write a table and a figure.

Command    python recipes/sweep.py --config-file=recipes/studies/augmentations.yaml
               --data.train=train.beton --data.val=val.beton
           (of an installed package: ffcv-ssl sweep augmentations --data.train=… --data.val=…)
On a CPU   --sweep.base={method}_cpu replaces every recipe by the CPU recipe of its method.
Options    Options of other sections, --section.field=value, apply to every cell.
           --train.seed=0,1 replaces the seeds of the study.
Output     In --sweep.out: cells/ with the folder of each run, cells.csv, table.md, figure.png.

Finished cells are not trained again, and interrupted cells continue from their checkpoint. So after
Ctrl-C, or to draw the figure again, repeat the command. If a cell fails, the last line of its log
is printed and the other cells are still trained. `study.py` describes the format of a study.
"""

import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ffcv_ssl.cli.config.parser import parse
from ffcv_ssl.cli.status import FOUND_PROBLEMS, OK, exit_status
from ffcv_ssl.errors import ConfigError, TrainingStopped
from ffcv_ssl.evaluate import examine_files
from ffcv_ssl.recipes.cells import Cell, Outcome, difference_of, finished_outcome, make_cells
from ffcv_ssl.recipes.figures import draw_study
from ffcv_ssl.recipes.report import markdown_table, value_of, write_csv
from ffcv_ssl.recipes.study import Study, read_study, study_names
from ffcv_ssl.runs.measurements import write_whole
from ffcv_ssl.system.paths import LocalPath
from ffcv_ssl.train import DataConfig, option
from ffcv_ssl.train.stop import StopSignals

POLL_S = 0.2
Runner = Callable[[Cell, StopSignals], int]  # trains a cell and returns its exit status


@dataclass(frozen=True)
class SweepConfig:
    """The study to run, its output and its recipe."""

    study: LocalPath = field(
        metadata={
            "help": "Study to run: a file, or the name of one in recipes/studies",
            "positional": "STUDY",
        }
    )
    out: LocalPath = option(
        "Folder for cells, table and figure; empty uses runs/ and the name of the study", ""
    )
    base: LocalPath = option(
        "Recipe to use instead of the study's; {method}_cpu uses the CPU recipe of each method", ""
    )


def train_cell(cell: Cell, stop: StopSignals) -> int:
    """Run `ffcv-ssl train` in its own process and forward a stop request once.

    The process has its own session. Otherwise Ctrl-C would reach it twice, from the terminal and
    from here, and a second signal stops a run without a checkpoint.

    Parameters
    ----------
    cell
        Cell to train. The output goes to `log.txt` in its folder.
    stop
        Signals that the sweep has received.

    Returns
    -------
    int
        Exit status of the process.
    """
    train = [sys.executable, "-m", "ffcv_ssl.cli.main", "train"]
    command = [*train, *cell.arguments, "--train.resume=1"]
    with (cell.folder / "log.txt").open("ab") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    is_forwarded = False
    try:
        while process.poll() is None:
            if stop.received is not None and not is_forwarded:
                process.send_signal(signal.SIGINT)
                is_forwarded = True
            try:
                process.wait(POLL_S)
            except subprocess.TimeoutExpired:
                continue
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    return process.returncode


def run(
    study: Study, cells: Sequence[Cell], out: Path, train: Runner = train_cell
) -> dict[str, str]:
    """Train the cells that are not finished, then write cells.csv, table.md and figure.png.

    Parameters
    ----------
    study
        The study.
    cells
        All cells of the study.
    out
        Folder to write to.
    train
        Function that trains a cell.

    Returns
    -------
    dict
        Name of each failed cell → reason.

    Raises
    ------
    TrainingStopped
        After SIGINT, SIGTERM, SIGHUP or SIGQUIT, once the running cell has stopped and the finished
        cells are written.
    """
    outcomes: list[Outcome] = []
    failures: dict[str, str] = {}
    with StopSignals() as stop:
        for number, cell in enumerate(cells, start=1):
            if stop.received is None:
                title = f"[{number}/{len(cells)}] {cell.name}"
                outcome, failure = _finish_cell(cell, stop, train, title)
            else:
                outcome, failure = finished_outcome(cell), ""
            if outcome is not None:
                outcomes.append(outcome)
                failure = _missing_value(study, outcome)
            if failure:
                failures[cell.name] = failure
                print(f"  failed: {failure}", flush=True)
    if outcomes:
        write_csv(study, outcomes, out / "cells.csv")
        write_whole(out / "table.md", markdown_table(study, outcomes).encode())
        draw_study(study, outcomes, out / "figure.png")
    if stop.received is not None:
        name = signal.Signals(stop.received).name
        raise TrainingStopped(
            f"stopped by {name}, {len(outcomes)} of {len(cells)} cells are finished. "
            "Repeat the command to continue.",
            exit_status=128 + stop.received,
        )
    return failures


def _finish_cell(
    cell: Cell, stop: StopSignals, train: Runner, title: str
) -> tuple[Outcome | None, str]:
    """Return the outcome of a cell, after training it if necessary, or the reason of a failure."""
    if difference := difference_of(cell):
        advice = "Delete it, or choose another --sweep.out."
        return None, f"{cell.folder} holds a run with {difference}. {advice}"
    if (outcome := finished_outcome(cell)) is not None:
        print(f"{title}: finished before", flush=True)
        return outcome, ""
    is_resumed = (cell.folder / "checkpoint.pt").exists()
    print(f"{title}: {'resumed' if is_resumed else 'started'}", flush=True)
    cell.folder.mkdir(parents=True, exist_ok=True)
    status = train(cell, stop)
    outcome = finished_outcome(cell)
    if outcome is None and stop.received is None:
        return None, f"status {status}: {_last_line(cell.folder / 'log.txt')}"
    return outcome, ""


def _missing_value(study: Study, outcome: Outcome) -> str:
    """Return a sentence about a value that the study draws and the run lacks; empty if none."""
    for key in study.y:
        if value_of(outcome.result, key) is None:
            scores = ", ".join(outcome.result["scores"]) or "none"
            return f"its result.json has no {key}. It has the scores {scores}."
    return ""


def _last_line(path: Path) -> str:
    """Return the last line of a log that is not blank."""
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    lines = (line.strip() for line in reversed(text.split("\n")))
    return next((line for line in lines if line), "no output")


def split_arguments(arguments: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Separate the arguments of the sweep from the settings of its cells.

    Parameters
    ----------
    arguments
        Arguments without the program's name.

    Returns
    -------
    own
        The study, options of the section `sweep`, and --help.
    overrides
        `section.field` → value of all other options.

    Raises
    ------
    ConfigError
        If a setting is not written `--section.field=value`, or sets `log.out`.
    """
    own: list[str] = []
    overrides: dict[str, str] = {}
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        flag, equals, value = argument.partition("=")
        if flag in ("--config-file", "-C"):
            own += [value] if equals else rest[:1]
            rest = rest if equals else rest[1:]
        elif not flag.startswith("--") or flag.startswith(("--sweep.", "--help")):
            own.append(argument)
        elif not equals:
            raise ConfigError(f"{flag}: settings of the cells are written --section.field=value.")
        elif flag == "--log.out":
            raise ConfigError(
                "--log.out: every cell has its own folder; set the folder that contains them with "
                "--sweep.out=…"
            )
        else:
            overrides[flag.removeprefix("--")] = value
    return own, overrides


def examine_cells(cells: Sequence[Cell]) -> None:
    """Compare the training and validation files of all cells before the first is trained.

    Parameters
    ----------
    cells
        Cells of a study. Files that several cells use are compared once.

    Raises
    ------
    ConfigError
        If the classes of two files do not match.
    """
    files = [DataConfig(**cell.config["data"]) for cell in cells if cell.config["data"]["val"]]
    for data in {(data.train, data.val, data.image, data.label): data for data in files}.values():
        examine_files(data)


def program(argv: Sequence[str] | None = None) -> int:
    """Run the sweep with these arguments and return the exit status; let errors propagate."""
    own, overrides = split_arguments(sys.argv[1:] if argv is None else argv)
    description = (
        f"Train every cell of a study. Studies: {', '.join(study_names())}. Options of other "
        "sections, such as --data.train, apply to every cell."
    )
    sections = {"sweep": SweepConfig}
    config: SweepConfig = parse("ffcv-ssl sweep", sections, own, description)["sweep"]
    study = read_study(config.study)
    out = Path(config.out or f"runs/{study.name}")
    cells = make_cells(study, out, config.base, overrides)
    _check_files(study, cells)
    examine_cells(cells)
    failures = run(study, cells, out)
    if (out / "table.md").exists():
        print(f"written to {out}: cells.csv, table.md, figure.png")
    for name, failure in failures.items():
        print(f"failed: {name}: {failure}", file=sys.stderr)
    return FOUND_PROBLEMS if failures else OK


def _check_files(study: Study, cells: Sequence[Cell]) -> None:
    """Raise ConfigError if a file is missing, or no validation file is given for scores."""
    files = [cell.config["data"][name] for cell in cells for name in ("train", "val")]
    for file in dict.fromkeys(files):
        if file and not Path(file).exists():
            raise ConfigError(f"{file}: no such file; every cell would fail.")
    draws_scores = any(key.startswith("scores.") for key in study.y)
    if draws_scores and not all(cell.config["data"]["val"] for cell in cells):
        raise ConfigError(
            f"give --data.val=…: {study.name} draws scores, which runs without a validation file "
            "do not have."
        )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program with these arguments and return its exit status."""
    return exit_status("sweep", program, argv)


if __name__ == "__main__":
    sys.exit(main())
