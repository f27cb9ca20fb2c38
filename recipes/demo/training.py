"""Run several recipes at once, each in a process of its own, and report how they get on."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ffcv_ssl.cli.config.parser import config_yaml
from ffcv_ssl.errors import TrainingStopped

POLL_SECONDS = 0.5
EXIT_SECONDS = 20.0  # what a run gets to save its checkpoint when the others have failed


def train_at_once(
    configs: Mapping[str, Mapping[str, Any]], folders: Mapping[str, Path]
) -> dict[str, Mapping[str, float]]:
    """Train every method with its configuration; what earlier runs left in the folders is removed.

    One process with half of the cores each: small networks leave the threads of one process waiting for each other, the more so the
    busier the machine is.

    Parameters
    ----------
    configs
        Method → configuration of its recipe.
    folders
        Method → folder of its run. Beside it stand NAME.yaml, to repeat the run, and NAME.log.

    Returns
    -------
    dict
        Method → scores of its features.

    Raises
    ------
    TrainingStopped
        If a run fails; the message holds the last line of its log. The other runs are stopped.
    """
    processes: dict[str, subprocess.Popen] = {}
    try:
        for method, config in configs.items():
            processes[method] = _start(method, config, folders[method])
        _watch(processes, folders)
    finally:
        _stop(processes)
    return {
        method: json.loads((folder / "result.json").read_text(encoding="utf-8"))["scores"]
        for method, folder in folders.items()
    }


def _start(method: str, config: Mapping[str, Any], folder: Path) -> subprocess.Popen:
    """Start one run as `ffcv-ssl train` would."""
    shutil.rmtree(folder, ignore_errors=True)
    yaml = folder.with_suffix(".yaml")
    yaml.write_text(config_yaml(config, method), encoding="utf-8")
    command = [sys.executable, "-m", "ffcv_ssl.cli.main", "train", f"--config-file={yaml}"]
    with folder.with_suffix(".log").open("w", encoding="utf-8") as log:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
        )


def _watch(processes: Mapping[str, subprocess.Popen], folders: Mapping[str, Path]) -> None:
    """Report evaluations until all runs have ended; raise when one fails."""
    from ffcv_ssl.runs.record import read_rows

    reported = dict.fromkeys(processes, 0)
    running = set(processes)
    while running:
        time.sleep(POLL_SECONDS)
        for method, process in processes.items():
            if method in running and process.poll() is not None:
                running.remove(method)
                if process.returncode != 0:
                    raise TrainingStopped(
                        f"{method} ended with status {process.returncode}: {_last_line(folders[method])}"
                    )
            for row in read_rows(folders[method] / "eval.csv")[reported[method] :]:
                reported[method] += 1
                say(
                    f"  {method:8} after {row['seconds']:3.0f} s, {row['step']:.0f} steps: kNN {row['knn']:.1%}"
                )


def _last_line(folder: Path) -> str:
    """What a run said last."""
    lines = folder.with_suffix(".log").read_text(encoding="utf-8").strip().splitlines()
    return lines[-1] if lines else "it said nothing."


def _stop(processes: Mapping[str, subprocess.Popen]) -> None:
    """End what still runs: politely, then not."""
    for process in processes.values():
        process.terminate()
    for process in processes.values():
        try:
            process.wait(EXIT_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def say(text: str) -> None:
    """Write a line to standard output, at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
