"""The kernel cache: shared by many processes, never stale, proof against damage, silent where it cannot write."""

import errno
import os
import re
import shutil
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest

from ffcv_ssl.kernels import _cache_folder

KERNEL = """
import os
import numpy as np
from ffcv_ssl.kernels._jit import per_sample
from ffcv_ssl.kernels.scalar.color import to_uint8

@per_sample
def shifted(value):
    return value + 1

@per_sample
def shifted_sum(values, out):
    for i in range(values.size):
        out[0] += shifted(values[i])

@per_sample
def rounded(values, out):
    for i in range(values.size):
        out[i] = to_uint8(values[i])

def show(dtype):
    out = np.zeros(1, dtype)
    shifted_sum(np.arange(1, 5).astype(dtype), out)
    hits, misses = (sum(found.values()) for found in (shifted_sum.stats.cache_hits, shifted_sum.stats.cache_misses))
    os.write(1, f"{dtype} {out[0]} {hits} {misses}\\n".encode())  # at once, so that no other process's line comes between
"""
PLAIN = "import sys; from kernel import show\nfor dtype in sys.argv[1:]: show(dtype)"
DTYPES = ["uint8", "int16", "int32", "int64", "float32", "float64"]
ROUNDS = int(os.environ.get("FFCV_SSL_COLD_CACHE_ROUNDS", "3"))  # 20 take two minutes on two cores


@pytest.fixture
def folder(tmp_path):
    """A folder with a module of kernels of its own."""
    (tmp_path / "kernel.py").write_text(KERNEL)
    return tmp_path


def start(
    folder, program, *arguments, cache="cache", package=_cache_folder.PACKAGE.parent, **environment
):
    """Start a program in a process of its own, with an empty cache the first time."""
    paths = os.pathsep.join([str(folder), str(package)])
    environment = {
        **os.environ,
        "FFCV_SSL_CACHE_DIR": str(folder / cache),
        "PYTHONPATH": paths,
        **environment,
    }
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(
        [sys.executable, "-c", program, *arguments], env=environment, cwd=folder, **pipes
    )


def finish(process):
    """Words of every line that a process wrote, and what it complained about."""
    out, err = process.communicate(timeout=100)
    assert process.returncode == 0, err
    return [line.split() for line in out.splitlines()], err


def values(process):
    return [float(line[1]) for line in finish(process)[0]]


# Numba is imported once; every child comes to its kernels, in an order of its own, when all stand ready.
CROWD = """
import os, sys
import numba, numpy as np
numba.njit(lambda values: values.sum())(np.ones(3))  # all that a compilation imports
pipe_out, pipe_in = os.pipe()
children = []
for child in range(12):
    if not (pid := os.fork()):
        os.close(pipe_in)
        os.read(pipe_out, 1)
        from kernel import show
        for place in range(6):
            show(sys.argv[1 + (place * (1 + child // 6 * 4) + child) % 6])
        os._exit(0)
    children.append(pid)
os.close(pipe_in)
sys.exit(any(os.waitpid(pid, 0)[1] for pid in children))
"""


@pytest.mark.timeout(60 + 30 * ROUNDS)
def test_cold_cache__survives_many_processes_at_once(folder):
    """Twelve processes that want six dtypes of one kernel compile each but once, get their own results, and leave a whole cache."""
    for round_ in range(ROUNDS):
        lines, _ = finish(start(folder, CROWD, *DTYPES, cache=f"cache{round_}"))
        assert sorted(line[0] for line in lines) == sorted(12 * DTYPES)
        assert {float(line[1]) for line in lines} == {14.0}
        lasts = [
            line for line in lines if int(line[2]) + int(line[3]) == 6
        ]  # each process's last line counts all its dtypes
        assert (len(lasts), sum(int(line[3]) for line in lasts)) == (12, 6)
        lines, _ = finish(start(folder, PLAIN, *DTYPES, cache=f"cache{round_}"))
        assert [(line[0], float(line[1])) for line in lines] == [(dtype, 14.0) for dtype in DTYPES]
        assert lines[-1][2:] == ["6", "0"]


STALLED = """
import time
import kernel
kernel.shifted_sum._compiler.compile = lambda *signature: (print("compiling", flush=True), time.sleep(1000))
kernel.show("uint8")
"""


def test_killed_process__lets_the_next_one_compile(folder):
    """A process that dies while it compiles holds up no other."""
    stalled = start(folder, STALLED)
    assert stalled.stdout.readline() == "compiling\n"
    waiting = start(folder, "import logging; logging.basicConfig(level='DEBUG')\n" + PLAIN, "uint8")
    while (
        "Attempting to acquire lock" not in waiting.stderr.readline() or waiting.poll() is not None
    ):
        pass
    stalled.send_signal(signal.SIGKILL)
    stalled.communicate()
    assert values(waiting) == [14.0]


def test_edited_formula__changes_the_result_of_the_next_process(folder):
    """When a scalar in another file than the kernel's is edited, the next process computes with it; edited back, its code is there."""
    shutil.copytree(
        _cache_folder.PACKAGE, folder / "ffcv_ssl", ignore=shutil.ignore_patterns("__pycache__")
    )
    formula = folder / "ffcv_ssl" / "kernels" / "scalar" / "color.py"
    original = formula.read_text()
    edited = original + "\n\n@scalar\ndef to_uint8(value):\n    return np.uint8(77)\n"
    program = "import numpy as np; from kernel import rounded; out = np.zeros(2, np.uint8)\n"
    program += "rounded(np.array([3.2, 300], np.float32), out); print(*out, sum(rounded.stats.cache_hits.values()))"
    for text, expected in (
        (original, "3 255 0"),
        (edited, "77 77 0"),
        (original, "3 255 1"),
        (edited, "77 77 1"),
    ):
        formula.write_text(text)
        assert finish(start(folder, program, package=folder))[0] == [expected.split()]


def test_compiled_files__are_all_part_of_the_stamp():
    """Every file that has kernels or scalars changes the hash that names the cache's folder."""
    sources = {path: path.read_text() for path in _cache_folder.PACKAGE.rglob("*.py")}
    compiled = {
        path
        for path, text in sources.items()
        if re.search(r"^from (numba.extending|ffcv_ssl.kernels._jit) ", text, re.M)
    }
    stamped = {
        path
        for pattern in _cache_folder.COMPILED_FILES
        for path in _cache_folder.PACKAGE.glob(pattern)
    }
    assert compiled - stamped == set()


def test_damaged_entry__is_compiled_anew(folder):
    """Cut, overwritten and exchanged cache files cost a compilation, nothing else."""
    finish(start(folder, PLAIN, *DTYPES[:2]))
    entries = sorted(folder.rglob("*shifted_sum*.nb?"))
    assert len(entries) == 3
    for entry in entries:
        entry.write_bytes(entry.read_bytes()[:20])
        assert values(start(folder, PLAIN, *DTYPES[:2])) == [14.0, 14.0]
    first, second = sorted(folder.rglob("*shifted_sum*.nbc"))
    one, other = first.read_bytes(), second.read_bytes()
    first.write_bytes(other)
    second.write_bytes(one)
    lines, err = finish(start(folder, PLAIN, *DTYPES[:2]))
    assert [float(line[1]) for line in lines] == [14.0, 14.0]
    assert "damaged" in err


def test_unwritable_cache__is_said_once_and_harms_nothing(folder):
    """Where no folder can be made, or the home folder is read-only, kernels are compiled for this process alone."""
    (folder / "file").write_text("in the way")
    home = folder / "home"
    home.mkdir(mode=0o555)
    read_only = "/proc" if os.access(home, os.W_OK) else str(home)  # root may write anywhere else
    for options in (
        {"cache": "file"},
        {"FFCV_SSL_CACHE_DIR": "", "XDG_CACHE_HOME": "", "HOME": read_only},
    ):
        lines, err = finish(start(folder, PLAIN, *DTYPES, **options))
        assert [float(line[1]) for line in lines] == [14.0] * 6
        assert err.count("FFCV_SSL_CACHE_DIR") == 1


@pytest.mark.parametrize("suffix", ["nbi", "1.nbc"])
def test_entry_that_cannot_be_read__is_a_miss_said_once(folder, suffix):
    """A folder in the place of an index or a data file, or another user's file, costs compilations and one line."""
    finish(start(folder, PLAIN, *DTYPES[:2]))
    for entry in folder.rglob(f"*.{suffix}"):
        entry.unlink()
        entry.mkdir()
    lines, err = finish(start(folder, PLAIN, *DTYPES))
    assert [float(line[1]) for line in lines] == [14.0] * 6
    assert err.count("cannot be read from or kept in") == 1
    assert f"{suffix}: Is a directory" in err
    assert "Traceback" not in err


DENIED = """
import builtins, os, pathlib
from ffcv_ssl.kernels import _cache_folder
_cache_folder.cache_folder()
def refusing(open_):
    def refuse(path, *more, **options):
        if str(path).endswith({denied!r}):
            raise OSError({number}, os.strerror({number}), str(path))
        return open_(path, *more, **options)
    return refuse
builtins.open, os.open = refusing(open), refusing(os.open)
pathlib.Path.read_bytes = lambda path: open(path, "rb").read()
"""


@pytest.mark.parametrize(
    ("denied", "number"),
    [(".nbi", errno.EACCES), (".nbc", errno.EACCES), (".nbc", errno.EIO), ("/lock", errno.EACCES)],
)
def test_cache_of_another_user__is_a_miss_said_once(folder, denied, number):
    """Files that may not be opened, or a disk that fails, are said once; results are right."""
    finish(start(folder, PLAIN, *DTYPES[:2]))
    lines, err = finish(
        start(folder, DENIED.format(denied=denied, number=number) + PLAIN, *DTYPES[:3])
    )
    assert [float(line[1]) for line in lines] == [14.0] * 3
    assert err.count("cannot be read from or kept in") == 1
    assert "Traceback" not in err


def test_leftover_of_a_killed_save__goes_with_the_next(folder):
    """Half a file that a killed process left in the cache is removed when the next kernel is kept."""
    finish(start(folder, PLAIN, DTYPES[0]))
    (cache,) = (folder / "cache" / "kernels").iterdir()
    (cache / "kernel.shifted-1.py311.1.nbc.tmp.0123456789abcdef").write_bytes(bytes(1000))
    finish(start(folder, PLAIN, *DTYPES[:2]))
    assert list(cache.glob("*.tmp.*")) == []


# The compiler holds still until the line was logged, so the line comes while the kernel is being compiled.
PATIENT = """
import threading
from ffcv_ssl.kernels import _cache_folder
import kernel
_cache_folder.PATIENCE_S = 0.001
said = threading.Event()
_cache_folder.logger.addFilter(lambda record: said.set() or True)
compile_ = kernel.shifted_sum._compiler.compile
kernel.shifted_sum._compiler.compile = lambda *signature: compile_(*signature) if said.wait(30) else None
kernel.show("uint8")
kernel.show("uint8")
"""


def test_compilation__is_announced_while_it_goes_on(folder):
    """Without any logging set up, stderr names the kernel once, not those that it calls; a warm start says nothing."""
    assert finish(start(folder, PATIENT))[1].splitlines() == [
        "compiling kernel.shifted_sum: once per machine, it takes 10 to 20 seconds."
    ]
    assert finish(start(folder, PLAIN, "uint8"))[1] == ""
    assert (
        finish(start(folder, PATIENT, FFCV_SSL_CACHE_DIR="/proc"))[1].count(
            "compiling kernel.shifted_sum"
        )
        == 1
    )


def test_short_compilation__is_not_announced(monkeypatch):
    """What is over within the patience leaves no thread that would announce it later."""
    monkeypatch.setattr(_cache_folder, "PATIENCE_S", 60.0)
    before = set(threading.enumerate())
    with _cache_folder.announced(test_short_compilation__is_not_announced):
        (timer,) = set(threading.enumerate()) - before
    timer.join(10)
    assert not timer.is_alive()


def test_scalars__are_one_formula_for_python_and_machine_code():
    """A scalar called from Python rounds as inside a kernel."""
    from ffcv_ssl.kernels.scalar.color import to_uint8

    assert [to_uint8(np.float32(value)) for value in (-3, 0.49, 0.5, 254.5, 300)] == [
        0,
        0,
        1,
        255,
        255,
    ]


@pytest.mark.parametrize("version", ["0.59.1", "0.69.0", "1.0.0"])
def test_untested_numba__compiles_without_the_cache(folder, version):
    """A Numba whose private names may be others compiles in every process; that is said once, and results are right."""
    pretend = f"import numba; numba.__version__ = {version!r}\n"
    for _ in range(2):
        lines, err = finish(start(folder, pretend + PLAIN, *DTYPES[:2]))
        assert [float(line[1]) for line in lines] == [14.0, 14.0]
        assert {line[2] for line in lines} == {"0"}
        assert err.count(f"Numba {version}: compiled kernels are not kept") == 1
