"""A short form of `make fuzz`, and the process pool of the fuzz."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

FAULTS = """
import ctypes, json, os, sys
from pathlib import Path
import numpy as np
from tests.stress.pool import Pool, Report

def run(seed):
    if seed == 3:
        ctypes.string_at(0)
    if seed == 5:
        while True:
            pass
    if seed == 7:
        np.empty(80 << 20, np.uint8)
    if seed == 9:
        raise KeyError("raised by the function itself")
    faults = [("wrong value", "text")] if seed == 10 else []
    return Report("even" if seed % 2 == 0 else "odd", "made", "fine", {}, faults)

columns = ["fine", "faults", "other"]
named = lambda seed: ("odd", "named")
pool = Pool(run, named, ["even", "odd"], columns, Path(sys.argv[1]), 1.0, 64 << 20)
pool.go(0, 20, 2)
findings = [(each.seed, each.fault) for each in pool.findings]
print(json.dumps({"findings": findings, "counts": pool.counts.tolist()}))
"""


def run(*arguments):
    """Run Python in a separate process, because the fuzz forks and the test process must not."""
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=110,
        check=False,
    )


def test_pool__finds_every_way_to_die(tmp_path):
    """Signal, hang, memory, exception and fault are found with their seeds; other seeds run."""
    result = run("-c", FAULTS, str(tmp_path))
    assert result.returncode == 0, result.stderr
    outcome = json.loads(result.stdout)
    assert outcome["findings"] == [
        [3, "signal"],
        [5, "hang"],
        [7, "allocation"],
        [9, "exit"],
        [10, "wrong value"],
    ]
    assert outcome["counts"] == [[9, 1, 0], [6, 4, 0]]


@pytest.fixture(scope="module")
def short_run(tmp_path_factory):
    """Run the fuzz with a few hundred files and JPEGs."""
    path = tmp_path_factory.mktemp("fuzz") / "fuzz.json"
    result = run(
        "-m",
        "tests.stress.fuzz",
        "--part",
        "files",
        "jpegs",
        "--count=300",
        "--seed=11",
        f"--json={path}",
    )
    assert path.exists(), result.stderr[-3000:] + result.stdout[-3000:]
    return json.loads(path.read_text())


def total(part, column):
    """Return the sum of a column over all kinds."""
    return sum(row[column] for row in part["counts"].values())


def test_fuzz__finds_nothing(short_run):
    """Malformed files and JPEGs cause no finding."""
    for name, part in short_run.items():
        assert not part["findings"], f"{name}: {part['findings'][:3]}"


def test_fuzz__gets_deep(short_run):
    """Every kind of mutation occurs, and files are rejected, partly read, and fully read."""
    files = short_run["files"]
    assert all(row["files"] for row in files["counts"].values())
    assert total(files, "files") == 300
    for column in ("refused", "value errors", "same values", "other values"):
        assert total(files, column) >= 10, column
    assert total(short_run["jpegs"], "decoded") >= 20
    assert total(short_run["jpegs"], "refused") >= 100
