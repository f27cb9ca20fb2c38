"""Atomic replacement of files."""

import os
import signal

import pytest

from ffcv_ssl.system.atomic import replacing, replacing_with_list, resolve_target, write_whole
from ffcv_ssl.system.files import write_exactly


def test_replacing__changes_nothing_before_the_end(tmp_path):
    """The target changes only at the end of the block, and no temporary file remains."""
    target = tmp_path / "file"
    target.write_bytes(b"old")
    with replacing(str(target)) as descriptor:
        write_exactly(descriptor, 0, b"new content")
        assert target.read_bytes() == b"old"
    assert target.read_bytes() == b"new content"
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_replacing__discards_a_failed_write(tmp_path, error):
    """After any exception the target is unchanged and no temporary file remains."""
    target = tmp_path / "file"
    target.write_bytes(b"old")

    def fail():
        with replacing(str(target)) as descriptor:
            write_exactly(descriptor, 0, b"new content")
            raise error

    with pytest.raises(error):
        fail()
    assert target.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_replacing__discards_a_file_that_cannot_be_renamed(tmp_path, monkeypatch):
    """A failed rename leaves no temporary file."""

    def refuse(*paths):
        raise PermissionError("no")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(PermissionError), replacing(str(tmp_path / "file")):
        pass
    assert os.listdir(tmp_path) == []


def test_target__resolves_links_and_rejects_other_files(tmp_path):
    """Symbolic links are resolved; folders and missing parent folders are errors."""
    (tmp_path / "link").symlink_to(tmp_path / "file")
    assert resolve_target(tmp_path / "link") == str(tmp_path / "file")
    with pytest.raises(OSError, match="not a regular file"):
        resolve_target(tmp_path)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        resolve_target(tmp_path / "missing" / "file")


def test_write_whole__replaces_the_content(tmp_path):
    """The file has exactly the new bytes, also when these are fewer than before."""
    for content in (b"a long content", b"short", b""):
        write_whole(tmp_path / "file", content)
        assert (tmp_path / "file").read_bytes() == content
    assert os.listdir(tmp_path) == ["file"]


# Steps that change the folder: old list renamed, file renamed, new list renamed, old list removed.
STEPS = 4


def put_both(folder, content, listed):
    """Replace `file` and its list."""
    with replacing_with_list(str(folder / "file"), str(folder / "file.csv")) as (
        descriptor,
        list_content,
    ):
        write_exactly(descriptor, 0, content)
        list_content += listed


def contents(folder):
    """Contents of the file and of its list; None for a missing one."""
    return tuple(
        path.read_bytes() if path.exists() else None
        for path in (folder / "file", folder / "file.csv")
    )


def killed_at(step, folder, content, listed):
    """Replace both in a child process that is killed at a step; return whether it was killed.

    The child is killed before (negative `step`) or after (positive) the n-th step.
    """
    child = os.fork()
    if child == 0:
        num_steps = 0

        def counted(function):
            def call(*arguments):
                nonlocal num_steps
                num_steps += 1
                if num_steps == -step:
                    os.kill(os.getpid(), signal.SIGKILL)
                try:
                    return function(*arguments)
                finally:
                    if num_steps == step:
                        os.kill(os.getpid(), signal.SIGKILL)

            return call

        os.replace, os.unlink = counted(os.replace), counted(os.unlink)
        try:
            put_both(folder, content, listed)
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


@pytest.mark.parametrize("step", [*range(-STEPS, 0), *range(1, STEPS + 1)])
@pytest.mark.parametrize(
    ("old", "new"), [(b"old list", b"new list"), (b"old list", b""), (b"", b"new list")]
)
def test_list__matches_its_file_after_a_kill(tmp_path, step, old, new):
    """After a kill at any step no file has the list of another; the next write repairs both."""
    put_both(tmp_path, b"old", old)
    assert contents(tmp_path) == (b"old", old or None)
    assert killed_at(step, tmp_path, b"new", new)
    assert contents(tmp_path) in {
        (b"old", old or None),
        (b"old", None),
        (b"new", None),
        (b"new", new or None),
    }
    put_both(tmp_path, b"newer", b"newer list")
    assert contents(tmp_path) == (b"newer", b"newer list")
    assert sorted(os.listdir(tmp_path)) == ["file", "file.csv"]


def test_list__is_restored_when_the_file_cannot_be_replaced(tmp_path, monkeypatch):
    """If the rename of the file fails, file and list are unchanged and nothing else remains."""
    put_both(tmp_path, b"old", b"old list")
    replace = os.replace

    def refuse(source, target):
        if target == str(tmp_path / "file"):
            raise PermissionError("no")
        replace(source, target)

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(PermissionError):
        put_both(tmp_path, b"new", b"new list")
    assert contents(tmp_path) == (b"old", b"old list")
    assert sorted(os.listdir(tmp_path)) == ["file", "file.csv"]
