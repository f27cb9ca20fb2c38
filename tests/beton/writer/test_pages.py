"""Packing of values into pages, compared with the bytes of the file."""

import os
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ffcv_ssl.beton.writer.pages import PageWriter

PAGE = 64  # packing works with any page size


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder for many files."""
    return tmp_path_factory.mktemp("pages")


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    st.lists(st.lists(st.integers(1, 200), max_size=6), min_size=1, max_size=6),
    st.sampled_from([PAGE, 3 * PAGE]),
)
def test_pages__hold_every_sample_whole(folder, batches, start):
    """Samples are in order, inside one page each, without overlap; checksums match the file."""
    descriptor = os.open(folder / "pages", os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    try:
        pages, stored, letter = PageWriter(descriptor, start, PAGE), [], 0
        for sizes in batches:
            contents = [bytes([1 + (letter + i) % 255]) * size for i, size in enumerate(sizes)]
            letter += len(sizes)
            stored += zip(pages.append(b"".join(contents), sizes), contents, strict=True)
        records_end = start - 5
        end, checksums = pages.finish(records_end)
        data = os.pread(descriptor, 1 << 20, 0)
    finally:
        os.close(descriptor)
    assert end % pages.page_size == 0
    assert len(data) == end
    previous = start
    for offset, content in stored:
        assert offset >= previous
        assert data[offset : offset + len(content)] == content
        assert offset // pages.page_size == (offset + len(content) - 1) // pages.page_size
        previous = offset + len(content)
    first = end - len(checksums) * pages.page_size
    assert first <= min([offset for offset, _ in stored], default=end)
    boundaries = range(first, end, pages.page_size)
    assert list(checksums) == [
        zlib.crc32(data[max(each, records_end) : each + pages.page_size]) for each in boundaries
    ]


def test_pages__are_not_created_without_values(folder):
    """Without values there are no pages and no checksums."""
    descriptor = os.open(folder / "none", os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    pages = PageWriter(descriptor, PAGE, PAGE)
    assert pages.append(b"", []) == []
    end, checksums = pages.finish(10)
    os.close(descriptor)
    assert (end, checksums.dtype, len(checksums)) == (PAGE, np.uint32, 0)
