"""Failed writes raise promptly, name the sample and leave the disk unchanged."""

import ctypes
import errno
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from ffcv_ssl.beton import BetonReader, DatasetWriter
from ffcv_ssl.beton.format.layout import MIN_PAGE_SIZE
from ffcv_ssl.errors import BetonFormatError, ImageError, WriteError
from ffcv_ssl.fields import BytesField, IntField, NDArrayField, RGBImageField

FIELDS = {"text": BytesField(), "index": IntField()}
COUNT = 40


def write(path, dataset, num_workers=4, fields=FIELDS, **options):
    """Write with small pages and chunks, without a progress bar."""
    options = {"page_size": MIN_PAGE_SIZE, "progress": False, **options}
    return DatasetWriter(path, fields, num_workers=num_workers, **options).from_indexed_dataset(
        dataset, chunksize=5
    )


class Failing:
    """A dataset in which one sample calls a function."""

    def __init__(self, index, act, length=COUNT):
        self.index, self.act, self.length = index, act, length

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        if index == self.index:
            return self.act()
        return b"text %d" % index, index


class OwnError(Exception):
    """An exception that cannot be unpickled."""

    def __init__(self, name, number):
        super().__init__(f"{name} {number}")


def _raise_value_error():
    raise ValueError("the disk ate it")


def _raise_own_error():
    raise OwnError("own", 7)


def _raise_missing():
    raise FileNotFoundError(errno.ENOENT, "No such file", "photo.jpg")


@pytest.fixture
def untouched(make_good, leftovers, good):
    """Path of an existing file; file and folder must not change, and no worker may remain."""
    before = leftovers()
    yield make_good
    assert Path(make_good).read_bytes() == good.data
    assert leftovers() == before
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("num_workers", [0, 1, 4])
@pytest.mark.parametrize("index", [0, 17, COUNT - 1])
def test_exception__is_raised_with_the_sample(untouched, index, num_workers):
    """An exception of the dataset is the cause of a WriteError with the index of the sample."""
    with pytest.raises(
        WriteError, match=f"target.beton: sample {index}: ValueError: the disk ate it"
    ) as caught:
        write(untouched, Failing(index, _raise_value_error), num_workers)
    assert isinstance(caught.value.__cause__, ValueError)


@pytest.mark.parametrize("start_method", ["spawn", "forkserver"])
def test_exception__is_raised_for_every_start_method(untouched, start_method):
    """The error from a process that is not forked includes the traceback of the worker."""
    dataset = [(b"x", i) for i in range(9)] + [(None, 9)]
    with pytest.raises(WriteError, match=r"sample 9, field 'text': wanted bytes") as caught:
        write(untouched, dataset, 2, start_method=start_method)
    assert "encoding.py" in str(caught.value.__cause__.__cause__)


def test_exception__that_cannot_be_pickled_is_described(untouched):
    """For an exception that cannot be unpickled, the error has type, text and traceback."""
    with pytest.raises(WriteError, match="sample 3: OwnError: own 7") as caught:
        write(untouched, Failing(3, _raise_own_error))
    assert "_raise_own_error" in str(caught.value.__cause__)


def test_exception__ends_busy_workers(untouched):
    """An error does not wait for the other workers, which would take ten minutes."""

    class Slow(Failing):
        def __getitem__(self, index):
            if index not in (self.index, 0):
                time.sleep(600)
            return super().__getitem__(index)

    with pytest.raises(WriteError, match="sample 3: ValueError"):
        write(untouched, Slow(3, _raise_value_error), 4, start_method="fork")


def _kill_self():
    os.kill(os.getpid(), signal.SIGKILL)


def _exit():
    os._exit(1)


def _segfault():
    signal.signal(signal.SIGSEGV, signal.SIG_DFL)
    ctypes.string_at(0)


@pytest.mark.parametrize(
    ("act", "how"), [(_kill_self, "SIGKILL"), (_exit, "exit code 1"), (_segfault, "SIGSEGV")]
)
@pytest.mark.parametrize("index", [0, 23])
def test_dead_worker__is_detected_and_named(untouched, act, how, index, capfd):
    """A worker that is killed, exits or crashes raises WriteError with its sample."""
    with pytest.raises(WriteError, match=rf"target.beton: sample {index}: beton-writer-\d .*{how}"):
        write(untouched, Failing(index, act), 4, start_method="fork")


def test_dead_worker__is_detected_while_others_are_busy(untouched):
    """A dead worker is detected although an earlier chunk is not finished."""

    class Stuck(Failing):
        def __getitem__(self, index):
            if index == 0:
                time.sleep(600)
            return super().__getitem__(index)

    with pytest.raises(WriteError, match=r"sample 9: .*SIGKILL"):
        write(untouched, Stuck(9, _kill_self), 2, start_method="fork")


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        ((b"x",), "returned 1 values, expected 2"),
        ((b"x", 1, 2), "returned 3 values, expected 2"),
        ({"text": b"x"}, "returned a dict without"),
        ({b"text", 1}, "returned set, expected a tuple"),
        (b"xy", "returned bytes, expected a tuple"),
        (None, "returned NoneType, expected a tuple"),
        ((None, 1), "field 'text': wanted bytes"),
        ((b"x", None), "field 'index': wanted an integer"),
    ],
)
def test_sample__of_the_wrong_kind_is_an_error(untouched, sample, message):
    """A wrong number of values or type is an error with the sample and what was expected."""
    with pytest.raises(WriteError, match=f"sample 2.*{message}"):
        write(untouched, Failing(2, lambda: sample), 2, start_method="fork")


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((2, 3), np.int32),
        np.zeros((3, 2), np.float32),
        np.zeros(6, np.float32),
        [[0.0] * 3] * 2,
    ],
)
def test_array__of_the_wrong_type_or_shape_is_an_error(untouched, array):
    """Arrays are neither cast nor reshaped."""
    with pytest.raises(
        WriteError, match=r"sample 0, field 'box': wanted an array of float32 and shape \(2, 3\)"
    ):
        write(untouched, [(array,)], 0, {"box": NDArrayField("f4", (2, 3))})


def test_wrong_length__is_an_error_with_a_hint(untouched):
    """If len() is too large, the error at the first missing sample contains len()."""

    class TooLong(list):
        def __len__(self):
            return 12

    with pytest.raises(WriteError, match=r"sample 10: IndexError.*len\(\) of the dataset is 12"):
        write(untouched, TooLong((b"x", i) for i in range(10)), 0)


def test_image_error__is_the_cause(untouched, tmp_path):
    """An invalid image raises WriteError with the error of the field as cause."""
    with pytest.raises(WriteError, match="sample 0, field 'image'") as caught:
        write(untouched, [(b"<html>", 0)], 2, {"image": RGBImageField("jpg"), "index": IntField()})
    assert isinstance(caught.value.__cause__, ImageError)


class TooNarrow(IntField):
    """A custom field whose record dtype is too small for its values."""

    type_id = 255

    @property
    def record_dtype(self):
        return np.dtype("i1")


@pytest.mark.parametrize("num_workers", [0, 2])
def test_custom_record__that_does_not_fit_is_an_error(untouched, num_workers):
    """A number that overflows the record dtype of a custom field is an error."""
    with pytest.raises(
        WriteError, match=r"from sample 0: a field's record does not fit its record type"
    ):
        write(untouched, [(1000,)], num_workers, {"small": TooNarrow()})


class Unpicklable:
    """A dataset that cannot be pickled."""

    def __init__(self):
        self.function = lambda: 0

    def __len__(self):
        return 3

    def __getitem__(self, index):
        return b"x", index


def test_spawn__of_an_unpicklable_dataset_is_an_error(untouched):
    """The error names the class of the dataset and the remedy."""
    with pytest.raises(
        WriteError,
        match=r"dataset \(Unpicklable\).*cannot be sent to a new process: .*num_workers=0",
    ):
        write(untouched, Unpicklable(), 2, start_method="spawn")
    report = write(untouched.parent / "other.beton", Unpicklable(), 0)
    os.unlink(report.path)


def _write_in_a_daemon(path, results):
    try:
        write(path, [(b"x", 1)] * 3, 2)
    except WriteError as error:
        results.put(str(error))


def test_daemon__is_an_error_with_the_remedy(untouched):
    """A daemonic process must not start workers; the error names `num_workers=0`."""
    context = multiprocessing.get_context("fork")
    results = context.SimpleQueue()
    process = context.Process(target=_write_in_a_daemon, args=(untouched, results), daemon=True)
    process.start()
    process.join()
    assert "num_workers=0" in results.get()


@pytest.mark.parametrize("num_samples", [2, 100_000])
def test_spawn__from_an_unguarded_program_is_an_error(tmp_path, num_samples):
    """A program without `if __name__ == '__main__'` ends with an error that names the guard."""
    program = tmp_path / "program.py"
    program.write_text(
        "from ffcv_ssl.writer import DatasetWriter\n"
        "from ffcv_ssl.fields import IntField\n"
        "fields = {'i': IntField()}\n"
        "writer = DatasetWriter('x.beton', fields, num_workers=2, start_method='spawn')\n"
        f"writer.from_indexed_dataset([(1,)] * {num_samples})\n"
    )
    result = subprocess.run(
        [sys.executable, str(program)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert result.returncode == 1
    assert "__name__ == '__main__'" in result.stderr.splitlines()[-1]
    assert os.listdir(tmp_path) == ["program.py"]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_full_disk__is_an_os_error_that_names_the_sample(untouched, monkeypatch, num_workers):
    """The error has ENOSPC, the path and the current sample."""
    pwrite, written = os.pwrite, []

    def until_full(descriptor, view, offset):
        written.append(len(view))
        if sum(written) > 3_000_000:
            raise OSError(errno.ENOSPC, "No space left on device")
        return pwrite(descriptor, view, offset)

    monkeypatch.setattr(os, "pwrite", until_full)
    dataset = [(bytes(100_000), i) for i in range(COUNT)]
    with pytest.raises(OSError, match=r"while writing \d+ samples from sample 30") as caught:
        write(untouched, dataset, num_workers)
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(untouched))


@pytest.mark.parametrize("limit", [3 << 20, (9 << 20) - 100_000])
def test_file_size_limit__is_an_os_error(tmp_path, limit):
    """Exceeding a file size limit, early or at the end, raises OSError and leaves no file."""
    code = (
        "import resource, sys\n"
        "from ffcv_ssl.writer import DatasetWriter\n"
        "from ffcv_ssl.fields import BytesField\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))\n"
        "try:\n"
        "    writer = DatasetWriter('x.beton', {'b': BytesField()}, 1 << 21, 2, progress=False)\n"
        "    writer.from_indexed_dataset([(bytes(1000),)] * 7000)\n"
        "except OSError as error:\n"
        "    sys.exit(f'{type(error).__name__} {error.errno} {error.filename}')\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert result.stderr.strip() == f"OSError {errno.EFBIG} x.beton"
    assert os.listdir(tmp_path) == []


def test_short_writes__are_completed(tmp_path, monkeypatch):
    """The file is the same if each write call writes only half of its bytes."""
    dataset = [(bytes([i]) * 70_000, i) for i in range(COUNT)]
    write(tmp_path / "whole.beton", dataset, 0)
    pwrite = os.pwrite
    monkeypatch.setattr(
        os,
        "pwrite",
        lambda descriptor, view, offset: pwrite(descriptor, view[: max(1, len(view) // 2)], offset),
    )
    write(tmp_path / "halves.beton", dataset, 0)
    assert (tmp_path / "whole.beton").read_bytes() == (tmp_path / "halves.beton").read_bytes()


def test_invalid_target__is_an_error_before_the_first_sample(tmp_path, leftovers):
    """A missing folder, or a path that is not a regular file, is an error."""
    (tmp_path / "folder.beton").mkdir()
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe.beton")
    before = leftovers()
    for path in ("missing/x.beton", "folder.beton", "file/x.beton", "pipe.beton"):
        with pytest.raises(OSError, match=path.split("/", maxsplit=1)[0].split(".")[0]):
            write(tmp_path / path, Failing(0, _kill_self), 0)
    assert leftovers() == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_target__in_a_read_only_folder_is_an_error(tmp_path):
    """A folder without write permission raises PermissionError."""
    tmp_path.chmod(0o500)
    with pytest.raises(PermissionError):
        write(tmp_path / "x.beton", [(b"x", 1)], 0)


def test_two_writers__leave_one_complete_file(tmp_path):
    """Two writers to one path leave the complete file of one of them and nothing else."""
    datasets = [[(bytes([letter]) * 50_000, i) for i in range(COUNT)] for letter in b"ab"]
    for _ in range(3):
        threads = [
            threading.Thread(target=write, args=(tmp_path / "x.beton", dataset, 0))
            for dataset in datasets
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        with BetonReader(tmp_path / "x.beton") as reader:
            assert {reader.read(i, "text")[0] for i in range(COUNT)} in ({97}, {98})
            assert list(reader.verify()) == []
        assert os.listdir(tmp_path) == ["x.beton"]


SLOW_PROGRAM = """
import os, signal, sys, time
from pathlib import Path
from ffcv_ssl.writer import DatasetWriter
from ffcv_ssl.fields import BytesField, IntField

class Slow:
    def __len__(self):
        return 100000
    def __getitem__(self, index):
        Path(f"pids/{os.getpid()}").touch()
        time.sleep(0.01)
        return bytes(20000), index

signal.signal(signal.SIGINT, signal.default_int_handler)
if __name__ == "__main__":
    fields = {"text": BytesField(), "index": IntField()}
    options = {"num_workers": int(sys.argv[1]), "start_method": sys.argv[2], "progress": False}
    writer = DatasetWriter("target.beton", fields, 1 << 21, **options)
    writer.from_indexed_dataset(Slow(), chunksize=10)
"""


def _is_alive(pid):
    """Return whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def _wait_until(condition, seconds=30):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("number", "whom", "num_workers", "start_method", "exit_code"),
    [
        (signal.SIGINT, "group", 2, "fork", -signal.SIGINT),
        (signal.SIGINT, "parent", 2, "spawn", -signal.SIGINT),
        (signal.SIGINT, "parent", 0, "fork", -signal.SIGINT),
        (signal.SIGTERM, "parent", 2, "fork", 143),
        (signal.SIGTERM, "group", 2, "forkserver", 143),
        (signal.SIGTERM, "parent", 0, "fork", 143),
        (signal.SIGHUP, "group", 2, "fork", 129),
        (signal.SIGQUIT, "group", 2, "spawn", 131),
        (signal.SIGKILL, "parent", 2, "fork", -signal.SIGKILL),
        (signal.SIGKILL, "parent", 2, "spawn", -signal.SIGKILL),
    ],
)
def test_signal__ends_the_write_and_all_workers(
    make_good, tmp_path, good, number, whom, num_workers, start_method, exit_code
):
    """A signal leaves the old file and no process; only SIGKILL leaves a temporary file."""
    (tmp_path / "pids").mkdir()
    (tmp_path / "program.py").write_text(SLOW_PROGRAM)
    command = [sys.executable, "program.py", str(num_workers), start_method]
    program = subprocess.Popen(
        command, cwd=tmp_path, start_new_session=True, stderr=subprocess.PIPE
    )
    try:
        _wait_until(lambda: len(os.listdir(tmp_path / "pids")) == max(1, num_workers))
        (os.killpg if whom == "group" else os.kill)(program.pid, number)
        program.communicate(timeout=20)
        assert program.returncode == exit_code
        pids = [int(name) for name in os.listdir(tmp_path / "pids")]
        _wait_until(lambda: not any(_is_alive(pid) for pid in pids), seconds=10)
    finally:
        if program.poll() is None:
            os.killpg(program.pid, signal.SIGKILL)
            program.communicate()
    assert Path(make_good).read_bytes() == good.data
    temporary = [name for name in os.listdir(tmp_path) if name.endswith(".tmp")]
    assert len(temporary) == (number == signal.SIGKILL)
    for name in temporary:
        with pytest.raises(BetonFormatError):
            BetonReader(tmp_path / name)
