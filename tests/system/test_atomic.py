"""Files that appear whole or not at all."""

import os
import signal

import pytest

from ffcv_ssl.system.atomic import replacing, replacing_with_list, resolve_target
from ffcv_ssl.system.files import write_exactly


def test_replacing__shows_nothing_before_the_end(tmp_path):
    """Until the block ends the target is as it was; then it is the new file, and nothing else is there."""
    target = tmp_path / "file"
    target.write_bytes(b"old")
    with replacing(str(target)) as descriptor:
        write_exactly(descriptor, 0, b"new content")
        assert target.read_bytes() == b"old"
    assert target.read_bytes() == b"new content"
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_replacing__forgets_what_failed(tmp_path, error):
    """Any exception leaves the target and no temporary file."""
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


def test_replacing__forgets_what_could_not_be_renamed(tmp_path, monkeypatch):
    """A rename that fails leaves no temporary file either."""

    def refuse(*paths):
        raise PermissionError("no")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(PermissionError), replacing(str(tmp_path / "file")):
        pass
    assert os.listdir(tmp_path) == []


def test_target__follows_links_and_refuses_what_is_no_file(tmp_path):
    """Links lead to the file they name; folders and missing parents are errors."""
    (tmp_path / "link").symlink_to(tmp_path / "file")
    assert resolve_target(tmp_path / "link") == str(tmp_path / "file")
    with pytest.raises(OSError, match="something else than a file"):
        resolve_target(tmp_path)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        resolve_target(tmp_path / "missing" / "file")


STEPS = 4  # that change the folder: list put aside, file renamed, list renamed, old list removed


def put_both(folder, content, listed):
    """Replace `file` and its list."""
    with replacing_with_list(str(folder / "file"), str(folder / "file.csv")) as (
        descriptor,
        listed_bytes,
    ):
        write_exactly(descriptor, 0, content)
        listed_bytes += listed


def shown(folder):
    """What stands under the two names; None where there is nothing."""
    return tuple(
        path.read_bytes() if path.exists() else None
        for path in (folder / "file", folder / "file.csv")
    )


def killed_at(step, folder, content, listed):
    """Do so in a child process that is killed before (-) or after (+) the n-th step that changes the folder; return whether it was."""
    child = os.fork()
    if child == 0:
        taken = 0

        def counted(function):
            def call(*arguments):
                nonlocal taken
                taken += 1
                if taken == -step:
                    os.kill(os.getpid(), signal.SIGKILL)
                try:
                    return function(*arguments)
                finally:
                    if taken == step:
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
def test_list__follows_its_file_through_a_kill(tmp_path, step, old, new):
    """Killed at any step, neither file stands beside the other's list; the next write puts both right and leaves nothing else."""
    put_both(tmp_path, b"old", old)
    assert shown(tmp_path) == (b"old", old or None)
    assert killed_at(step, tmp_path, b"new", new)
    assert shown(tmp_path) in {
        (b"old", old or None),
        (b"old", None),
        (b"new", None),
        (b"new", new or None),
    }
    put_both(tmp_path, b"newer", b"newer list")
    assert shown(tmp_path) == (b"newer", b"newer list")
    assert sorted(os.listdir(tmp_path)) == ["file", "file.csv"]


def test_list__comes_back_where_the_file_cannot_be_replaced(tmp_path, monkeypatch):
    """When the rename of the file is refused, file and list are as before, and nothing else is there."""
    put_both(tmp_path, b"old", b"old list")
    replace = os.replace

    def refuse(source, target):
        if target == str(tmp_path / "file"):
            raise PermissionError("no")
        replace(source, target)

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(PermissionError):
        put_both(tmp_path, b"new", b"new list")
    assert shown(tmp_path) == (b"old", b"old list")
    assert sorted(os.listdir(tmp_path)) == ["file", "file.csv"]
