"""Whatever goes wrong while writing: an error that names the sample, soon, and everything on disk as it was."""

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
    """A dataset of which one sample does what a function does."""

    def __init__(self, index, act, length=COUNT):
        self.index, self.act, self.length = index, act, length

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        if index == self.index:
            return self.act()
        return b"text %d" % index, index


class OwnError(Exception):
    """An exception that cannot be built from its arguments, so that it does not survive pickling."""

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
    """The path of an earlier good file; afterwards it and the folder must be as before, and no worker may live."""
    before = leftovers()
    yield make_good
    assert Path(make_good).read_bytes() == good.data
    assert leftovers() == before
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("num_workers", [0, 1, 4])
@pytest.mark.parametrize("index", [0, 17, COUNT - 1])
def test_exception__comes_up_with_the_sample(untouched, index, num_workers):
    """An exception of the dataset, first, in the middle or last, is the cause of a WriteError that names the index."""
    with pytest.raises(
        WriteError, match=f"target.beton: sample {index}: ValueError: the disk ate it"
    ) as caught:
        write(untouched, Failing(index, _raise_value_error), num_workers)
    assert isinstance(caught.value.__cause__, ValueError)


@pytest.mark.parametrize("start_method", ["spawn", "forkserver"])
def test_exception__comes_up_from_processes_that_share_nothing(untouched, start_method):
    """The same with spawn and forkserver; the worker's traceback comes along."""
    dataset = [(b"x", i) for i in range(9)] + [(None, 9)]
    with pytest.raises(WriteError, match=r"sample 9, field 'text': wanted bytes") as caught:
        write(untouched, dataset, 2, start_method=start_method)
    assert "encoding.py" in str(caught.value.__cause__.__cause__)


def test_exception__that_cannot_be_pickled_comes_up_in_words(untouched):
    """An exception class that does not survive the way to the parent is told by its name, text and traceback."""
    with pytest.raises(WriteError, match="sample 3: OwnError: own 7") as caught:
        write(untouched, Failing(3, _raise_own_error))
    assert "_raise_own_error" in str(caught.value.__cause__)


def test_exception__ends_siblings_that_are_busy(untouched):
    """One worker's error does not wait for the others, which would take ten minutes."""

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
def test_dead_worker__is_noticed_and_named(untouched, act, how, index, capfd):
    """A worker that is killed, leaves or crashes ends the write with the sample it was at."""
    with pytest.raises(WriteError, match=rf"target.beton: sample {index}: beton-writer-\d .*{how}"):
        write(untouched, Failing(index, act), 4, start_method="fork")


def test_dead_worker__while_others_wait_is_noticed(untouched):
    """A worker that dies far ahead of the file is noticed although the one that holds up the file is still busy."""

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
        ((b"x",), "gave 1 values, wanted 2"),
        ((b"x", 1, 2), "gave 3 values, wanted 2"),
        ({"text": b"x"}, "gave a dict without"),
        ({b"text", 1}, "gave a set, wanted a tuple"),
        (b"xy", "gave a bytes, wanted a tuple"),
        (None, "gave a NoneType, wanted a tuple"),
        ((None, 1), "field 'text': wanted bytes"),
        ((b"x", None), "field 'index': wanted an integer"),
    ],
)
def test_sample__of_another_shape_is_refused(untouched, sample, message):
    """Too few or too many values, other containers and None are errors that name sample, field and what was wanted."""
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
def test_array__of_another_type_or_shape_is_refused(untouched, array):
    """Equal numbers of bytes are not enough."""
    with pytest.raises(
        WriteError, match=r"sample 0, field 'box': wanted an array of float32 and shape \(2, 3\)"
    ):
        write(untouched, [(array,)], 0, {"box": NDArrayField("f4", (2, 3))})


def test_length__that_lies_is_an_error_with_a_hint(untouched):
    """A dataset whose len() promises too much fails at the first sample that is not there, and the message says what len() said."""

    class Lying(list):
        def __len__(self):
            return 12

    with pytest.raises(WriteError, match=r"sample 10: IndexError.*len\(\) of the dataset is 12"):
        write(untouched, Lying((b"x", i) for i in range(10)), 0)


def test_image_error__is_the_cause(untouched, tmp_path):
    """An unreadable image ends the write with the field's own error as cause."""
    with pytest.raises(WriteError, match="sample 0, field 'image'") as caught:
        write(untouched, [(b"<html>", 0)], 2, {"image": RGBImageField("jpg"), "index": IntField()})
    assert isinstance(caught.value.__cause__, ImageError)


class TooNarrow(IntField):
    """A custom field whose record is smaller than what it encodes."""

    type_id = 255

    @property
    def record_dtype(self):
        return np.dtype("i1")


@pytest.mark.parametrize("num_workers", [0, 2])
def test_custom_record__that_does_not_fit_is_an_error(untouched, num_workers):
    """A number that is too large for a custom field's record is an error with the samples it is among, not another number."""
    with pytest.raises(
        WriteError, match=r"from sample 0: a field's record does not fit its record type"
    ):
        write(untouched, [(1000,)], num_workers, {"small": TooNarrow()})


class Unpicklable:
    """A dataset that holds something that cannot be sent."""

    def __init__(self):
        self.function = lambda: 0

    def __len__(self):
        return 3

    def __getitem__(self, index):
        return b"x", index


def test_spawn__of_an_unpicklable_dataset_says_so(untouched):
    """A dataset that cannot be sent to a new process is named, with what to do."""
    with pytest.raises(
        WriteError,
        match=r"dataset \(Unpicklable\).*cannot be sent to a new process: .*num_workers=0",
    ):
        write(untouched, Unpicklable(), 2, start_method="spawn")
    assert_writes_anyway = write(untouched.parent / "other.beton", Unpicklable(), 0)
    os.unlink(assert_writes_anyway.path)


def _write_in_a_daemon(path, results):
    try:
        write(path, [(b"x", 1)] * 3, 2)
    except WriteError as error:
        results.put(str(error))


def test_daemon__is_told_to_write_by_itself(untouched):
    """A daemonic process, such as one of a pool, may not have children: the error says what to do."""
    context = multiprocessing.get_context("fork")
    results = context.SimpleQueue()
    process = context.Process(target=_write_in_a_daemon, args=(untouched, results), daemon=True)
    process.start()
    process.join()
    assert "num_workers=0" in results.get()


@pytest.mark.parametrize("num_samples", [2, 100_000])
def test_spawn__from_an_unguarded_program_says_so(tmp_path, num_samples):
    """A program without `if __name__ == '__main__'` ends with an error that names the guard, not with a hang or a bomb."""
    program = tmp_path / "program.py"
    program.write_text(
        "from ffcv_ssl.writer import DatasetWriter\n"
        "from ffcv_ssl.fields import IntField\n"
        "DatasetWriter('x.beton', {'i': IntField()}, num_workers=2, start_method='spawn').from_indexed_dataset([(1,)] * "
        f"{num_samples})\n"
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
    """When the disk takes no more, the error has ENOSPC, the path and the sample that was being written."""
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
    """A limit of the operating system, hit in the pages or at the very end, is an OSError, and nothing is left."""
    code = (
        "import resource, sys\n"
        "from ffcv_ssl.writer import DatasetWriter\n"
        "from ffcv_ssl.fields import BytesField\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))\n"
        "try:\n"
        "    DatasetWriter('x.beton', {'b': BytesField()}, 1 << 21, 2, progress=False).from_indexed_dataset([(bytes(1000),)] * 7000)\n"
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


def test_short_writes__write_everything(tmp_path, monkeypatch):
    """A disk that takes half of each write gets the same bytes."""
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


def test_target__that_cannot_be_is_refused_at_once(tmp_path, leftovers):
    """Missing folders, folders in the target's place, files in the folder's place: before a sample is asked for."""
    (tmp_path / "folder.beton").mkdir()
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe.beton")
    before = leftovers()
    for path in ("missing/x.beton", "folder.beton", "file/x.beton", "pipe.beton"):
        with pytest.raises(OSError, match=path.split("/", maxsplit=1)[0].split(".")[0]):
            write(tmp_path / path, Failing(0, _kill_self), 0)
    assert leftovers() == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_target__in_a_read_only_folder_is_refused(tmp_path):
    """A folder without write permission is a PermissionError."""
    tmp_path.chmod(0o500)
    with pytest.raises(PermissionError):
        write(tmp_path / "x.beton", [(b"x", 1)], 0)


def test_two_writers__leave_one_file_whole(tmp_path):
    """Writers to one path at the same time: one of the files is there in the end, never a mixture, and nothing else."""
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
    DatasetWriter("target.beton", {"text": BytesField(), "index": IntField()}, 1 << 21, int(sys.argv[1]), progress=False,
                  start_method=sys.argv[2]).from_indexed_dataset(Slow(), chunksize=10)
"""


def _is_alive(pid):
    """Whether a process runs (one that has ended but was not collected does not)."""
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
    """Any signal that ends the program leaves the earlier file and no process; all but SIGKILL leave no temporary file either."""
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
