"""Files that appear whole or not at all."""

import os
import signal
import threading

import pytest

from ffcv_ssl.beton.atomic import replacing, resolve_target, unwinding_on_sigterm
from ffcv_ssl.beton.files import write_exactly


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


def test_sigterm__unwinds_the_block(tmp_path):
    """SIGTERM becomes SystemExit(143) inside the block, so that files are cleaned up, and has its old meaning afterwards."""
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    with pytest.raises(SystemExit) as caught, unwinding_on_sigterm(), replacing(str(tmp_path / "file")):
        os.kill(os.getpid(), signal.SIGTERM)
    assert caught.value.code == 143
    assert os.listdir(tmp_path) == []
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_sigterm__of_the_user_is_respected():
    """A program's own handler stays, and other threads leave signals alone."""
    seen = []
    signal.signal(signal.SIGTERM, lambda number, frame: seen.append(number))
    try:
        with unwinding_on_sigterm():
            os.kill(os.getpid(), signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    assert seen == [signal.SIGTERM]

    def enter():
        with unwinding_on_sigterm():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert seen[-1] is signal.SIG_DFL
