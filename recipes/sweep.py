"""Run a study: train every cell of a grid, one after the other, and write one table and one picture.

Command    python recipes/sweep.py --config-file=recipes/studies/augmentations.yaml --data.train=train.beton --data.val=val.beton
           (installed: ffcv-ssl sweep augmentations --data.train=… --data.val=…)
On a CPU   --sweep.base={method}_cpu replaces every recipe by the one for CPUs of its method.
Options    --section.field=value of any other section is passed on to every cell; --train.seed=0,1 instead of the study's seeds.
Output     in --sweep.out: cells/ with a run's folder each, cells.csv, table.md, figure.png

A cell that is finished is not trained again, a cell that was interrupted goes on from its checkpoint: after Ctrl-C, or to draw the
picture anew, give the same command. A failed cell is named with the last line of its log; the others are still trained.
What a study may say stands in `study.py`.
"""

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ffcv_ssl.cli.config.parser import parse
from ffcv_ssl.cli.status import FOUND_PROBLEMS, OK, exit_status
from ffcv_ssl.errors import ConfigError, TrainingStopped
from ffcv_ssl.evaluate import examine_files
from ffcv_ssl.recipes.figures import draw_study
from ffcv_ssl.recipes.report import Outcome, markdown_table, value_of, write_csv
from ffcv_ssl.recipes.study import Cell, Study, make_cells, read_study, study_names
from ffcv_ssl.runs import read_run
from ffcv_ssl.runs.measurements import write_whole
from ffcv_ssl.system.paths import LocalPath
from ffcv_ssl.train import DataConfig, option
from ffcv_ssl.train.stop import StopSignals

# What does not decide a result: where and how watched the run is.
FREE = {("train", name) for name in ("resume", "device", "threads", "checkpoint_minutes")} | {
    ("data", "workers"),
    ("data", "cache"),
}
POLL_S = 0.2
Runner = Callable[[Cell, StopSignals], int]  # trains a cell and returns its exit status


@dataclass(frozen=True)
class SweepConfig:
    """Which study, where to, and on which recipe."""

    study: LocalPath = field(
        metadata={
            "help": "the study: a file, or the name of one in recipes/studies",
            "positional": "STUDY",
        }
    )
    out: LocalPath = option(
        "folder of cells, table and picture; empty: runs/ and the study's name", ""
    )
    base: LocalPath = option(
        "recipe instead of the study's; {method}_cpu: the one for CPUs of each method that the study trains",
        "",
    )


def train_cell(cell: Cell, stop: StopSignals) -> int:
    """Run `ffcv-ssl train` as a process of its own, its output in log.txt, and hand a stop request on once.

    In a session of its own: Ctrl-C would reach it twice else, from the terminal and from here, and the second is not polite: no checkpoint.
    """
    command = [
        sys.executable,
        "-m",
        "ffcv_ssl.cli.main",
        "train",
        *cell.arguments,
        "--train.resume=1",
    ]
    with (cell.folder / "log.txt").open("ab") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    is_asked = False
    try:
        while process.poll() is None:
            if stop.received is not None and not is_asked:
                process.send_signal(signal.SIGINT)
                is_asked = True
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
    """Train what is not yet trained, then write cells.csv, table.md and figure.png.

    Returns
    -------
    Name of each failed cell → why.

    Raises
    ------
    TrainingStopped
        After SIGINT, SIGTERM, SIGHUP or SIGQUIT, when the running cell has stopped and what is finished is written.
    """
    outcomes: list[Outcome] = []
    failures: dict[str, str] = {}
    with StopSignals() as stop:
        for number, cell in enumerate(cells, start=1):
            if stop.received is None:
                outcome, failure = _finish_cell(
                    cell, stop, train, f"[{number}/{len(cells)}] {cell.name}"
                )
            else:
                outcome, failure = _finished(cell), ""
            if outcome is not None:
                outcomes.append(outcome)
                failure = _missing(study, outcome)
            if failure:
                failures[cell.name] = failure
                print(f"  failed: {failure}", flush=True)
    if outcomes:
        write_csv(study, outcomes, out / "cells.csv")
        write_whole(out / "table.md", markdown_table(study, outcomes).encode())
        draw_study(study, outcomes, out / "figure.png")
    if stop.received is not None:
        raise TrainingStopped(
            f"stopped by {signal.Signals(stop.received).name}, {len(outcomes)} of {len(cells)} cells are finished. "
            "The same command goes on from here.",
            exit_status=128 + stop.received,
        )
    return failures


def _finish_cell(
    cell: Cell, stop: StopSignals, train: Runner, name: str
) -> tuple[Outcome | None, str]:
    """What the cell measured, trained if need be; or why there is nothing."""
    if difference := _difference(cell):
        return (
            None,
            f"{cell.folder} holds a run with {difference}. Delete it, or choose another --sweep.out.",
        )
    if (outcome := _finished(cell)) is not None:
        print(f"{name}: finished before", flush=True)
        return outcome, ""
    print(
        f"{name}: {'resumed' if (cell.folder / 'checkpoint.pt').exists() else 'begun'}", flush=True
    )
    cell.folder.mkdir(parents=True, exist_ok=True)
    status = train(cell, stop)
    outcome = _finished(cell)
    if outcome is None and stop.received is None:
        return None, f"status {status}: {_last_line(cell.folder / 'log.txt')}"
    return outcome, ""


def _finished(cell: Cell) -> Outcome | None:
    """What the cell's result.json holds; None if there is none, or not one of this configuration."""
    result = _read_result(cell.folder)
    return None if result is None or _difference(cell) else Outcome(cell, result)


def _read_result(folder: Path) -> dict[str, Any] | None:
    """The folder's result.json; None where there is none, or a torn one."""
    try:
        result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError, RecursionError):
        return None
    parts = (result.get("scores"), result.get("config")) if isinstance(result, dict) else (None,)
    return result if all(isinstance(part, dict) for part in parts) else None


def _difference(cell: Cell) -> str:
    """Which option the run in the cell's folder has otherwise than the cell; empty if none, or if there is no run.

    Options that the older run did not know count as equal.
    """
    result = _read_result(cell.folder)
    try:
        before = (
            result["config"]
            if result
            else read_run(cell.folder)[1]
            if (cell.folder / "config.yaml").exists()
            else {}
        )
    except ConfigError as error:
        return f"a damaged configuration ({error})"
    for section, fields in cell.config.items():
        options = before.get(section, {})
        for name, value in fields.items():
            old = options.get(name, value) if isinstance(options, dict) else options
            if section != "log" and (section, name) not in FREE and old != value:
                return f"{section}.{name}={old}, not {value}"
    return ""


def _missing(study: Study, outcome: Outcome) -> str:
    """Say which number that the study draws the run did not measure; empty if none."""
    for key in study.y:
        if value_of(outcome.result, key) is None:
            return f"its result.json has no {key}. It has the scores {', '.join(outcome.result['scores']) or 'none'}."
    return ""


def _last_line(path: Path) -> str:
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n") if path.exists() else []
    return next((line.strip() for line in reversed(lines) if line.strip()), "no output")


def split_arguments(arguments: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Part the sweep's own arguments from the settings for every cell."""
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
            raise ConfigError(f"{flag}: settings for every cell are written --section.field=value.")
        elif flag == "--log.out":
            raise ConfigError(
                "--log.out: every cell has its own folder; --sweep.out=… is where they lie."
            )
        else:
            overrides[flag.removeprefix("--")] = value
    return own, overrides


def examine_cells(cells: Sequence[Cell]) -> None:
    """Match the classes of all cells' files, and log what is odd, before the first is trained."""
    files = [DataConfig(**cell.config["data"]) for cell in cells if cell.config["data"]["val"]]
    for data in {(data.train, data.val, data.image, data.label): data for data in files}.values():
        examine_files(data)


def program(argv: Sequence[str] | None = None) -> int:
    """Parse, train, write, print."""
    own, overrides = split_arguments(sys.argv[1:] if argv is None else argv)
    about = f"Train every cell of a study. Studies: {', '.join(study_names())}. Options of other sections go to every cell."
    config: SweepConfig = parse("ffcv-ssl sweep", {"sweep": SweepConfig}, own, about)["sweep"]
    study = read_study(config.study)
    out = Path(config.out or f"runs/{study.name}")
    cells = make_cells(study, out, config.base, overrides)
    for file in dict.fromkeys(
        cell.config["data"][name] for cell in cells for name in ("train", "val")
    ):
        if file and not Path(file).exists():
            raise ConfigError(f"{file}: no such file; every cell would fail.")
    if any(key.startswith("scores.") for key in study.y) and not all(
        cell.config["data"]["val"] for cell in cells
    ):
        raise ConfigError(
            f"give --data.val=…: {study.name} draws scores, which runs without a validation file do not have."
        )
    examine_cells(cells)
    failures = run(study, cells, out)
    if (out / "table.md").exists():
        print(f"written to {out}: cells.csv, table.md, figure.png")
    for name, failure in failures.items():
        print(f"failed: {name}: {failure}", file=sys.stderr)
    return FOUND_PROBLEMS if failures else OK


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program and return its exit status."""
    return exit_status("sweep", program, argv)


if __name__ == "__main__":
    sys.exit(main())
