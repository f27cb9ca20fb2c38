"""Positioned reads and writes under an operating system that does as little as it may."""

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


def test_read__goes_on_after_short_reads(opened, monkeypatch):
    """A file system that returns half of what was asked gives the same bytes."""
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
    """A file that ends too early is TruncatedFile with path and offset, and not zeros."""
    path, descriptor = opened
    with pytest.raises(
        TruncatedFile, match=f"{path}: ended at offset {len(CONTENT)}; 10 more bytes"
    ):
        read_exactly(descriptor, len(CONTENT) - 5, memoryview(bytearray(15)), path)


def test_read__names_the_file_that_failed(opened, monkeypatch):
    """EIO comes up as an OSError with its number, the path and the offset."""
    path, descriptor = opened

    def failing(*arguments):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "preadv", failing)
    with pytest.raises(OSError, match="at offset 7") as caught:
        read_exactly(descriptor, 7, memoryview(bytearray(1)), path)
    assert (caught.value.errno, caught.value.filename) == (errno.EIO, path)


def test_write__goes_on_after_short_writes(opened, monkeypatch):
    """A disk that takes three bytes at a time gets all of them."""
    path, descriptor = opened
    pwrite = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, view, offset: pwrite(fd, view[:3], offset))
    write_exactly(descriptor, 5, b"0123456789")
    with open(path, "rb") as file:
        assert file.read() == CONTENT[:5] + b"0123456789" + CONTENT[15:]


@pytest.mark.parametrize("kind", ["folder", "pipe", "dangling link", "device"])
def test_open__refuses_what_is_no_file(kind, tmp_path):
    """Folders, pipes, devices and links to nothing are refused at once, with the path."""
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


def test_open__of_a_missing_file_is_the_usual_error(tmp_path):
    """A file that does not exist is FileNotFoundError."""
    with pytest.raises(FileNotFoundError, match="nowhere"):
        open_for_reading(str(tmp_path / "nowhere"))


def test_flushing__reports_what_the_disk_refuses(opened, monkeypatch):
    """An error of the flush, which the system tells once and never again, comes up at the end of the block; its thread ends."""
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


def test_flushing__leaves_other_errors_as_they_are(opened):
    """What goes wrong inside the block is what comes out of it, and the thread ends."""
    with pytest.raises(ZeroDivisionError), flushing(opened[1]):
        raise ZeroDivisionError
    assert all(thread.name != "beton-flush" for thread in threading.enumerate())
