"""Temporary files of processes that were killed go with the next write; those in use stay."""

import errno
import os
import signal
import time

import pytest

from ffcv_ssl.system import temporary
from ffcv_ssl.system.atomic import replacing
from ffcv_ssl.system.files import write_exactly


@pytest.fixture
def leftover(tmp_path):
    """Make the temporary file of a process that was killed while it wrote 3 MiB; return its path."""

    def make(folder=tmp_path):
        before = set(os.listdir(folder))
        child = os.fork()
        if child == 0:
            with replacing(str(folder / "file")) as descriptor:
                write_exactly(descriptor, 0, bytes(3 << 20))
                os.kill(os.getpid(), signal.SIGKILL)
        os.waitpid(child, 0)
        (name,) = set(os.listdir(folder)) - before
        return folder / name

    return make


def write(folder, content=b"new"):
    """Write a file into a folder."""
    with replacing(str(folder / "other")) as descriptor:
        write_exactly(descriptor, 0, content)


def as_of_another_machine(path):
    """The same file under the name that another machine, or this one before a restart, would have given it."""
    return path.rename(path.with_name(path.name.replace(temporary._machine(), "0123abcd")))


def test_leftover__goes_with_the_next_write(tmp_path, leftover, caplog):
    """The next write of any file into the folder removes it and names it with its size."""
    path = leftover()
    write(tmp_path)
    assert os.listdir(tmp_path) == ["other"]
    assert caplog.messages == [f"removed {path} (3.0 MiB), left by a process that was killed."]


def test_leftover__does_not_mind_whose_number_its_process_had(tmp_path, leftover, monkeypatch):
    """What decides is the lock, which died with its process, not a process number."""
    path = leftover()
    monkeypatch.setattr(os, "kill", None)  # nobody asks whether a process lives
    temporary.remove_leftovers(str(tmp_path))
    assert not path.exists()


def test_file_in_use__stays(tmp_path, caplog):
    """A second write into the folder, from this process or another, leaves the first one's file alone, and says nothing."""
    with replacing(str(tmp_path / "first")) as descriptor:
        write(tmp_path)
        child = os.fork()
        if child == 0:
            try:
                write(tmp_path)
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        write_exactly(descriptor, 0, b"first")
    assert sorted(os.listdir(tmp_path)) == ["first", "other"]
    assert (tmp_path / "first").read_bytes() == b"first"
    assert caplog.messages == []


def test_other_files__stay(tmp_path):
    """Only names of our own pattern are touched: neither others' temporary files, nor folders or links under such a name."""
    ours = os.path.basename(temporary.temporary_name(str(tmp_path)))
    names = [".x.tmp", ".ffcv_ssl-0123.tmp", f"{ours}~", f"x{ours}"]
    for name in names:
        (tmp_path / name).write_text("mine")
    (tmp_path / ours).symlink_to(tmp_path / ".x.tmp")
    folder = temporary.temporary_name(str(tmp_path))
    os.mkdir(folder)
    write(tmp_path)
    assert sorted(os.listdir(tmp_path)) == sorted([*names, ours, os.path.basename(folder), "other"])


def test_leftover_of_another_machine__has_to_be_quiet_for_a_day(tmp_path, leftover):
    """Locks of network file systems may hold on one machine only: a file of another machine stays until it is a day old."""
    path = as_of_another_machine(leftover())
    write(tmp_path)
    assert path.exists()
    yesterday = time.time() - 25 * 3600
    os.utime(path, (yesterday, yesterday))
    write(tmp_path)
    assert not path.exists()


@pytest.mark.parametrize("refused", ["open", "unlink"])
def test_leftover_of_another_user__is_named_once(tmp_path, leftover, monkeypatch, caplog, refused):
    """What may not be opened or removed is said once, and the write goes on."""
    path = leftover()
    function = getattr(os, refused)

    def refuse(target, *arguments):
        if target == str(path):
            raise PermissionError(errno.EACCES, "Permission denied", target)
        return function(target, *arguments)

    monkeypatch.setattr(os, refused, refuse)
    write(tmp_path)
    write(tmp_path)
    assert (tmp_path / "other").read_bytes() == b"new"
    (message,) = caplog.messages
    assert message.startswith(f"{path} stays (Permission denied)")


def test_file_system_without_locks__keeps_what_it_cannot_judge(
    tmp_path, leftover, monkeypatch, caplog
):
    """Where no lock can be taken files are written all the same, and nothing is removed."""
    path = leftover()

    def no_locks(*arguments):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(temporary, "flock", no_locks)
    write(tmp_path)
    assert sorted(os.listdir(tmp_path)) == sorted([path.name, "other"])
    assert "No locks available" in caplog.text


def test_new_file__survives_that_it_was_taken_for_a_leftover(tmp_path, monkeypatch):
    """Another process may come between the making of a file and its lock: then a file with another name takes its place."""
    lock, removed = temporary.flock, []

    def late(descriptor, how):
        if not removed:
            (name,) = os.listdir(tmp_path)
            removed.append(name)
            os.unlink(tmp_path / name)
        lock(descriptor, how)

    monkeypatch.setattr(temporary, "flock", late)
    with temporary.temporary_file(str(tmp_path)) as (path, descriptor):
        assert os.path.basename(path) not in removed
        assert os.path.samestat(os.stat(path), os.fstat(descriptor))
    assert os.listdir(tmp_path) == []
