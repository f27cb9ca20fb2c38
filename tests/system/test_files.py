"""Positioned reads and writes, with short transfers and errors of the operating system."""

import errno
import os
import threading

import pytest

from ffcv_ssl.errors import NotABetonFile, TruncatedFile
from ffcv_ssl.system import files
from ffcv_ssl.system.files import flushing, open_for_reading, read_exactly, write_exactly

CONTENT = bytes(range(256)) * 40


@pytest.fixture
def opened(tmp_path):
    """Path and descriptor of a file with known content."""
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    descriptor = os.open(path, os.O_RDWR)
    yield str(path), descriptor
    os.close(descriptor)


def test_read__continues_after_short_reads(opened, monkeypatch):
    """A file system that returns half of the requested bytes yields the same content."""
    path, descriptor = opened
    preadv = os.preadv
    monkeypatch.setattr(
        os,
        "preadv",
        lambda fd, buffers, offset: preadv(
            fd, [buffers[0][: max(1, len(buffers[0]) // 2)]], offset
        ),
    )
    buffer = bytearray(1000)
    read_exactly(descriptor, 37, memoryview(buffer), path)
    assert buffer == CONTENT[37:1037]


def test_read__past_the_end_is_an_error(opened):
    """A file that ends too early raises TruncatedFile with path and offset."""
    path, descriptor = opened
    with pytest.raises(
        TruncatedFile, match=f"{path}: the file ends at offset {len(CONTENT)}, 10 bytes too early"
    ):
        read_exactly(descriptor, len(CONTENT) - 5, memoryview(bytearray(15)), path)


def test_read__names_the_file_that_failed(opened, monkeypatch):
    """EIO is raised as an OSError with errno, path and offset."""
    path, descriptor = opened

    def failing(*arguments):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "preadv", failing)
    with pytest.raises(OSError, match="at offset 7") as caught:
        read_exactly(descriptor, 7, memoryview(bytearray(1)), path)
    assert (caught.value.errno, caught.value.filename) == (errno.EIO, path)


def test_write__continues_after_short_writes(opened, monkeypatch):
    """All bytes are written even if each call writes only three."""
    path, descriptor = opened
    pwrite = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, view, offset: pwrite(fd, view[:3], offset))
    write_exactly(descriptor, 5, b"0123456789")
    with open(path, "rb") as file:
        assert file.read() == CONTENT[:5] + b"0123456789" + CONTENT[15:]


@pytest.mark.parametrize("kind", ["folder", "pipe", "dangling link", "device"])
def test_open__rejects_other_kinds_of_files(kind, tmp_path):
    """Folders, pipes, devices and broken links raise immediately; the message has the path."""
    path = tmp_path / "thing"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "dangling link":
        path.symlink_to(tmp_path / "nowhere")
    else:
        path.symlink_to("/dev/zero")
    with pytest.raises(NotABetonFile, match="thing"):
        open_for_reading(str(path))


def test_open__of_a_missing_file_raises(tmp_path):
    """A missing file raises FileNotFoundError."""
    with pytest.raises(FileNotFoundError, match="nowhere"):
        open_for_reading(str(tmp_path / "nowhere"))


def test_flushing__reports_a_failed_flush(opened, monkeypatch):
    """A failed flush, which the system reports only once, raises at the end of the block."""
    _, descriptor = opened
    tried = threading.Event()

    def refuse(fd):
        tried.set()
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(files, "_FLUSH_SECONDS", 0.001)
    monkeypatch.setattr(os, "fdatasync", refuse)
    with pytest.raises(OSError, match="Input/output error"), flushing(descriptor):
        assert tried.wait(30)
    assert all(thread.name != "beton-flush" for thread in threading.enumerate())


def test_flushing__does_not_hide_other_errors(opened):
    """An exception of the block propagates, and the thread ends."""
    with pytest.raises(ZeroDivisionError), flushing(opened[1]):
        raise ZeroDivisionError
    assert all(thread.name != "beton-flush" for thread in threading.enumerate())
