"""Run several recipes at the same time, each in its own process, and print their progress."""

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
EXIT_SECONDS = 20.0  # time for a run to save its checkpoint after another one has failed


def train_at_once(
    configs: Mapping[str, Mapping[str, Any]], folders: Mapping[str, Path]
) -> dict[str, Mapping[str, float]]:
    """Train several methods, each in its own process. Earlier runs in the folders are removed.

    On a busy machine, the threads of a process that trains a small network mostly wait for each
    other. Two processes with half of the cores each use them better than one after the other.

    Parameters
    ----------
    configs
        Method → configuration of its recipe.
    folders
        Method → folder of its run. NAME.yaml, to repeat the run, and NAME.log are written
        next to it.

    Returns
    -------
    dict
        Method → scores of its features.

    Raises
    ------
    TrainingStopped
        If a run fails, with the last line of its log. The other runs are stopped.
    """
    processes: dict[str, subprocess.Popen[bytes]] = {}
    try:
        for method, config in configs.items():
            processes[method] = _start(method, config, folders[method])
        _watch(processes, folders)
    finally:
        _stop(processes)
    results = {
        method: json.loads((folder / "result.json").read_text(encoding="utf-8"))
        for method, folder in folders.items()
    }
    return {method: result["scores"] for method, result in results.items()}


def _start(method: str, config: Mapping[str, Any], folder: Path) -> "subprocess.Popen[bytes]":
    """Start one run as `ffcv-ssl train` does."""
    shutil.rmtree(folder, ignore_errors=True)
    yaml = folder.with_suffix(".yaml")
    yaml.write_text(config_yaml(config, method), encoding="utf-8")
    command = [sys.executable, "-m", "ffcv_ssl.cli.main", "train", f"--config-file={yaml}"]
    with folder.with_suffix(".log").open("w", encoding="utf-8") as log:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
        )


def _watch(processes: "Mapping[str, subprocess.Popen[bytes]]", folders: Mapping[str, Path]) -> None:
    """Print evaluations until all runs have ended; raise TrainingStopped when one fails."""
    from ffcv_ssl.runs.record import read_rows

    num_printed = dict.fromkeys(processes, 0)
    running = set(processes)
    while running:
        time.sleep(POLL_SECONDS)
        for method, process in processes.items():
            if method in running and process.poll() is not None:
                running.remove(method)
                if process.returncode != 0:
                    raise TrainingStopped(
                        f"{method} ended with status {process.returncode}: "
                        f"{_last_line(folders[method])}"
                    )
            for row in read_rows(folders[method] / "eval.csv")[num_printed[method] :]:
                num_printed[method] += 1
                progress = f"after {row['seconds']:3.0f} s, {row['step']:.0f} steps"
                print_line(f"  {method:8} {progress}: kNN {row['knn']:.1%}")


def _last_line(folder: Path) -> str:
    """Return the last line of the log of a run."""
    lines = folder.with_suffix(".log").read_text(encoding="utf-8").strip().splitlines()
    return lines[-1] if lines else "its log is empty."


def _stop(processes: "Mapping[str, subprocess.Popen[bytes]]") -> None:
    """Terminate the processes that still run, and kill them if they do not end in time."""
    for process in processes.values():
        process.terminate()
    for process in processes.values():
        try:
            process.wait(EXIT_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def print_line(text: str) -> None:
    """Print a line and flush standard output."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
