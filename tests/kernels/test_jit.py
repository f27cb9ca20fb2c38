"""The kernel cache: shared by many processes, proof against damage, silent where it cannot write."""

import os
import subprocess
import sys

import numpy as np
import pytest

PROGRAM = """
import sys
import numpy as np
from ffcv_ssl.kernels._jit import per_sample

@per_sample
def shifted_sum(values, out):
    for i in range(values.size):
        out[0] += values[i] + values.dtype.type(1)

for dtype in sys.argv[1:]:
    out = np.zeros(1, dtype)
    shifted_sum(np.arange(1, 5).astype(dtype), out)
    print(dtype, out[0], sum(shifted_sum.stats.cache_hits.values()))
"""
DTYPES = ["uint8", "int32", "float32", "float64"]


@pytest.fixture
def program(tmp_path):
    """Path of a program with one kernel of its own."""
    path = tmp_path / "program.py"
    path.write_text(PROGRAM.replace("values.dtype.type(1)", "1"))
    return path


def start(program, cache, dtypes):
    environment = {**os.environ, "FFCV_SSL_CACHE_DIR": str(cache)}
    return subprocess.Popen(
        [sys.executable, str(program), *dtypes], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def lines(process):
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    return [line.split() for line in out.splitlines()], err


def test_cold_cache__survives_many_processes_at_once(program, tmp_path):
    """Processes that compile different dtypes of one kernel at once leave a cache from which every dtype gives its own result."""
    for round_ in range(2):
        cache = tmp_path / f"cache{round_}"
        for process in [start(program, cache, [dtype]) for dtype in DTYPES]:
            assert all(float(line[1]) == 14 for line in lines(process)[0])
        result, _ = lines(start(program, cache, DTYPES))
        assert [(line[0], float(line[1])) for line in result] == [(dtype, 14.0) for dtype in DTYPES]
        assert int(result[-1][2]) == len(DTYPES)


def test_damaged_entry__is_compiled_anew(program, tmp_path):
    """Cut and overwritten cache files cost a compilation, nothing else."""
    lines(start(program, tmp_path / "cache", DTYPES[:2]))
    entries = sorted((tmp_path / "cache").rglob("*.nbc")) + sorted((tmp_path / "cache").rglob("*.nbi"))
    assert len(entries) == 3
    for entry in entries:
        entry.write_bytes(entry.read_bytes()[:20])
        assert [float(line[1]) for line in lines(start(program, tmp_path / "cache", DTYPES[:2]))[0]] == [14.0, 14.0]


def test_unwritable_cache__is_said_once_and_harms_nothing(program, tmp_path):
    """Where no folder can be made, kernels are compiled for this process alone."""
    (tmp_path / "file").write_text("in the way")
    result, err = lines(start(program, tmp_path / "file", DTYPES))
    assert [float(line[1]) for line in result] == [14.0] * len(DTYPES)
    assert err.count("FFCV_SSL_CACHE_DIR") == 1


def test_scalars__are_one_formula_for_python_and_machine_code():
    """A scalar called from Python rounds as inside a kernel."""
    from ffcv_ssl.kernels.scalar.color import to_uint8

    assert [to_uint8(np.float32(value)) for value in (-3, 0.49, 0.5, 254.5, 300)] == [0, 0, 1, 255, 255]
