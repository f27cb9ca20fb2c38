"""The kernel cache: shared by processes, never stale, and harmless when damaged or unwritable."""

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
from ffcv_ssl.kernels._jit import cached_kernel
from ffcv_ssl.kernels.scalar.color import to_uint8

@cached_kernel
def shifted(value):
    return value + 1

@cached_kernel
def shifted_sum(values, out):
    for i in range(values.size):
        out[0] += shifted(values[i])

@cached_kernel
def rounded(values, out):
    for i in range(values.size):
        out[i] = to_uint8(values[i])

def show(dtype):
    out = np.zeros(1, dtype)
    shifted_sum(np.arange(1, 5).astype(dtype), out)
    stats = shifted_sum.stats
    hits, misses = (sum(found.values()) for found in (stats.cache_hits, stats.cache_misses))
    # One write, so that the lines of processes do not mix.
    os.write(1, f"{dtype} {out[0]} {hits} {misses}\\n".encode())
"""
PLAIN = "import sys; from kernel import show\nfor dtype in sys.argv[1:]: show(dtype)"
DTYPES = ["uint8", "int16", "int32", "int64", "float32", "float64"]
ROUNDS = int(os.environ.get("FFCV_SSL_COLD_CACHE_ROUNDS", "3"))  # 20 rounds take 2 min on 2 cores


@pytest.fixture
def folder(tmp_path):
    """A folder with a module that defines kernels."""
    (tmp_path / "kernel.py").write_text(KERNEL)
    return tmp_path


def start(
    folder, program, *arguments, cache="cache", package=_cache_folder.PACKAGE.parent, **environment
):
    """Start a program in a new process; the first one finds an empty cache."""
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
    """Return the words of every line on stdout, and stderr."""
    out, err = process.communicate(timeout=100)
    assert process.returncode == 0, err
    return [line.split() for line in out.splitlines()], err


def values(process):
    return [float(line[1]) for line in finish(process)[0]]


# Numba is imported once. All children start together and use the kernels in different orders.
CROWD = """
import os, sys
import numba, numpy as np
numba.njit(lambda values: values.sum())(np.ones(3))  # imports all that a compilation needs
pipe_out, pipe_in = os.pipe()
children = []
for child in range(12):
    if not (pid := os.fork()):
        os.close(pipe_in)
        os.read(pipe_out, 1)
        from kernel import show
        for step in range(6):
            show(sys.argv[1 + (step * (1 + child // 6 * 4) + child) % 6])
        os._exit(0)
    children.append(pid)
os.close(pipe_in)
sys.exit(any(os.waitpid(pid, 0)[1] for pid in children))
"""


@pytest.mark.timeout(60 + 30 * ROUNDS)
def test_cold_cache__survives_many_processes_at_once(folder):
    """Twelve processes with six dtypes of one kernel compile each once and leave a valid cache.

    All of them compute correct results.
    """
    for round_ in range(ROUNDS):
        lines, _ = finish(start(folder, CROWD, *DTYPES, cache=f"cache{round_}"))
        assert sorted(line[0] for line in lines) == sorted(12 * DTYPES)
        assert {float(line[1]) for line in lines} == {14.0}
        lasts = [
            line for line in lines if int(line[2]) + int(line[3]) == 6
        ]  # the last line of each process counts all its dtypes
        assert (len(lasts), sum(int(line[3]) for line in lasts)) == (12, 6)
        lines, _ = finish(start(folder, PLAIN, *DTYPES, cache=f"cache{round_}"))
        assert [(line[0], float(line[1])) for line in lines] == [(dtype, 14.0) for dtype in DTYPES]
        assert lines[-1][2:] == ["6", "0"]


STALLED = """
import time
import kernel
def compile_forever(*signature):
    print("compiling", flush=True)
    time.sleep(1000)
kernel.shifted_sum._compiler.compile = compile_forever
kernel.show("uint8")
"""


def test_killed_process__lets_the_next_one_compile(folder):
    """A process that dies while it compiles does not block other processes."""
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
    """A process uses an edited inline function of another file; the old code stays in the cache."""
    shutil.copytree(
        _cache_folder.PACKAGE, folder / "ffcv_ssl", ignore=shutil.ignore_patterns("__pycache__")
    )
    formula = folder / "ffcv_ssl" / "kernels" / "scalar" / "color.py"
    original = formula.read_text()
    edited = original + "\n\n@inline\ndef to_uint8(value):\n    return np.uint8(77)\n"
    program = "import numpy as np; from kernel import rounded; out = np.zeros(2, np.uint8)\n"
    program += "rounded(np.array([3.2, 300], np.float32), out)\n"
    program += "print(*out, sum(rounded.stats.cache_hits.values()))"
    for text, expected in (
        (original, "3 255 0"),
        (edited, "77 77 0"),
        (original, "3 255 1"),
        (edited, "77 77 1"),
    ):
        formula.write_text(text)
        assert finish(start(folder, program, package=folder))[0] == [expected.split()]


def test_compiled_files__are_all_part_of_the_stamp():
    """Every file with compiled code changes the hash that names the cache folder."""
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


def test_damaged_entry__is_compiled_again(folder):
    """Truncated, overwritten and swapped cache files only cause a compilation."""
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


def test_unwritable_cache__is_logged_once_and_harms_nothing(folder):
    """Without a writable cache folder, every process compiles the kernels."""
    (folder / "file").write_text("in the way")
    home = folder / "home"
    home.mkdir(mode=0o555)
    read_only = "/proc" if os.access(home, os.W_OK) else str(home)  # root may write everywhere else
    for options in (
        {"cache": "file"},
        {"FFCV_SSL_CACHE_DIR": "", "XDG_CACHE_HOME": "", "HOME": read_only},
    ):
        lines, err = finish(start(folder, PLAIN, *DTYPES, **options))
        assert [float(line[1]) for line in lines] == [14.0] * 6
        assert err.count("FFCV_SSL_CACHE_DIR") == 1


@pytest.mark.parametrize("suffix", ["nbi", "1.nbc"])
def test_unreadable_entry__is_a_miss_logged_once(folder, suffix):
    """A folder in place of an index or data file causes compilations and one warning."""
    finish(start(folder, PLAIN, *DTYPES[:2]))
    for entry in folder.rglob(f"*.{suffix}"):
        entry.unlink()
        entry.mkdir()
    lines, err = finish(start(folder, PLAIN, *DTYPES))
    assert [float(line[1]) for line in lines] == [14.0] * 6
    assert err.count("cannot read or write some compiled kernels") == 1
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
def test_cache_of_another_user__is_a_miss_logged_once(folder, denied, number):
    """Missing permissions and disk errors cause one warning; results are correct."""
    finish(start(folder, PLAIN, *DTYPES[:2]))
    lines, err = finish(
        start(folder, DENIED.format(denied=denied, number=number) + PLAIN, *DTYPES[:3])
    )
    assert [float(line[1]) for line in lines] == [14.0] * 3
    assert err.count("cannot read or write some compiled kernels") == 1
    assert "Traceback" not in err


def test_leftover_of_a_killed_save__is_removed_by_the_next(folder):
    """The next save removes the partial file of a killed process."""
    finish(start(folder, PLAIN, DTYPES[0]))
    (cache,) = (folder / "cache" / "kernels").iterdir()
    (cache / "kernel.shifted-1.py311.1.nbc.tmp.0123456789abcdef").write_bytes(bytes(1000))
    finish(start(folder, PLAIN, *DTYPES[:2]))
    assert list(cache.glob("*.tmp.*")) == []


# The compiler waits until the message was logged, so it is logged during the compilation.
PATIENT = """
import threading
from ffcv_ssl.kernels import _cache_folder
import kernel
_cache_folder.ANNOUNCE_AFTER_S = 0.001
logged = threading.Event()
_cache_folder.logger.addFilter(lambda record: logged.set() or True)
compile_ = kernel.shifted_sum._compiler.compile
def compile_after_log(*signature):
    return compile_(*signature) if logged.wait(30) else None
kernel.shifted_sum._compiler.compile = compile_after_log
kernel.show("uint8")
kernel.show("uint8")
"""


def test_compilation__is_announced_while_it_runs(folder):
    """Without configured logging, stderr names the kernel once; a warm start prints nothing."""
    assert finish(start(folder, PATIENT))[1].splitlines() == [
        "compiling kernel.shifted_sum; this happens once per machine and takes 10 to 20 seconds."
    ]
    assert finish(start(folder, PLAIN, "uint8"))[1] == ""
    assert (
        finish(start(folder, PATIENT, FFCV_SSL_CACHE_DIR="/proc"))[1].count(
            "compiling kernel.shifted_sum"
        )
        == 1
    )


def test_short_compilation__is_not_announced(monkeypatch):
    """A compilation that ends early leaves no thread that would announce it later."""
    monkeypatch.setattr(_cache_folder, "ANNOUNCE_AFTER_S", 60.0)
    before = set(threading.enumerate())
    with _cache_folder.announce_compilation(test_short_compilation__is_not_announced):
        (timer,) = set(threading.enumerate()) - before
    timer.join(10)
    assert not timer.is_alive()


def test_inline_functions__give_the_same_in_python_and_machine_code():
    """An inline function called from Python rounds as inside a kernel."""
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
    """With an untested Numba every process compiles and logs one warning; results are correct."""
    pretend = f"import numba; numba.__version__ = {version!r}\n"
    for _ in range(2):
        lines, err = finish(start(folder, pretend + PLAIN, *DTYPES[:2]))
        assert [float(line[1]) for line in lines] == [14.0, 14.0]
        assert {line[2] for line in lines} == {"0"}
        assert err.count(f"Numba {version}: compiled kernels are not cached") == 1
