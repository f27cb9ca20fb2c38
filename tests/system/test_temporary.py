"""Removal of temporary files that killed processes left behind."""

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
    """A function that kills a process while it writes 3 MiB and returns its temporary file."""

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
    """Rename a file as if another machine, or this one before its last boot, had written it."""
    return path.rename(path.with_name(path.name.replace(temporary._machine_id(), "0123abcd")))


def test_leftover__is_removed_by_the_next_write(tmp_path, leftover, caplog):
    """The next write to the folder removes the file and logs its path and size."""
    path = leftover()
    write(tmp_path)
    assert os.listdir(tmp_path) == ["other"]
    assert caplog.messages == [f"removed {path} (3.0 MiB), which a killed process left behind."]


def test_leftover__is_recognized_without_process_ids(tmp_path, leftover, monkeypatch):
    """The released lock identifies a leftover file, not the id of its process."""
    path = leftover()
    monkeypatch.setattr(os, "kill", None)  # a check of the process id would fail
    temporary.remove_leftovers(str(tmp_path))
    assert not path.exists()


def test_file_in_use__is_kept(tmp_path, caplog):
    """A second write to the folder, from this or another process, keeps the file of the first."""
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


def test_other_files__are_kept(tmp_path):
    """Only regular files with a matching name are removed, not links, folders or other names."""
    ours = os.path.basename(temporary.temporary_name(str(tmp_path)))
    names = [".x.tmp", ".ffcv_ssl-0123.tmp", f"{ours}~", f"x{ours}"]
    for name in names:
        (tmp_path / name).write_text("mine")
    (tmp_path / ours).symlink_to(tmp_path / ".x.tmp")
    folder = temporary.temporary_name(str(tmp_path))
    os.mkdir(folder)
    write(tmp_path)
    assert sorted(os.listdir(tmp_path)) == sorted([*names, ours, os.path.basename(folder), "other"])


def test_leftover_of_another_machine__is_removed_after_a_day(tmp_path, leftover):
    """A lock may be visible on one machine only, so files of other machines are kept for a day."""
    path = as_of_another_machine(leftover())
    write(tmp_path)
    assert path.exists()
    yesterday = time.time() - 25 * 3600
    os.utime(path, (yesterday, yesterday))
    write(tmp_path)
    assert not path.exists()


@pytest.mark.parametrize("refused", ["open", "unlink"])
def test_leftover_of_another_user__is_logged_once(tmp_path, leftover, monkeypatch, caplog, refused):
    """A file that cannot be opened or removed is logged once, and the write succeeds."""
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
    assert message.startswith(f"could not remove {path} (Permission denied).")


def test_file_system_without_locks__keeps_all_files(tmp_path, leftover, monkeypatch, caplog):
    """Without locks, files are written but leftover files are not removed."""
    path = leftover()

    def no_locks(*arguments):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(temporary, "flock", no_locks)
    write(tmp_path)
    assert sorted(os.listdir(tmp_path)) == sorted([path.name, "other"])
    assert "No locks available" in caplog.text


def test_new_file__removed_before_its_lock_is_replaced(tmp_path, monkeypatch):
    """If another process removes a file before it is locked, a file with a new name is created."""
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
