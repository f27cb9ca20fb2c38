"""Pack the stored bytes of samples into pages of a growing file, in the order given."""

from __future__ import annotations

import os
import zlib
from collections.abc import Sequence

import numpy as np

from ffcv_ssl.beton.format.integrity import page_ranges, range_checksum
from ffcv_ssl.beton.format.layout import align_up
from ffcv_ssl.system.files import read_exactly, write_exactly

_ZEROS = memoryview(bytes(1 << 20))


class PageWriter:
    """Writes values straight to their place in the file and keeps the checksum of each page.

    A sample that is larger than a page raises the page size. Pages are multiples of the page size from the start of the file, so all
    that was written before stays inside one page; the checksums of grown files are taken by reading them once at the end.

    Parameters
    ----------
    descriptor
        Of a file open for reading and writing.
    start
        File offset of the first page, a multiple of the page size.
    page_size
        Bytes, at first.
    """

    def __init__(self, descriptor: int, start: int, page_size: int):
        self.page_size = page_size
        self._descriptor = descriptor
        self._start = start
        self._offset = start  # where the next byte goes
        self._page_end = start  # no page is open yet
        self._first_page_size = page_size
        self._checksum = 0
        self._checksums: list[int] = []

    def append(self, payload: bytes | bytearray | memoryview, sizes: Sequence[int]) -> list[int]:
        """Store samples that lie one after the other in `payload`, each inside one page.

        Parameters
        ----------
        payload
            The bytes of all the samples.
        sizes
            Bytes of each sample, at most the largest page size.

        Returns
        -------
        list
            The file offset of each sample.
        """
        view = memoryview(payload)
        offsets = []
        run_start = position = 0  # of the samples that go into the open page
        for size in sizes:
            if self._offset + position - run_start + size > self._page_end:
                self._write(view[run_start:position])
                self._turn_page(size)
                run_start = position
            offsets.append(self._offset + position - run_start)
            position += size
        self._write(view[run_start:position])
        return offsets

    def finish(self, records_end: int) -> tuple[int, np.ndarray]:
        """Pad the last page; return the file offset after it and the (P,) uint32 checksums of the last P pages before that.

        `records_end` is where the records end: bytes before it do not count as page content.
        """
        self._close_page()
        end = align_up(self._page_end, self.page_size)
        os.ftruncate(self._descriptor, end)
        if self.page_size == self._first_page_size:
            return end, np.array(self._checksums, dtype=np.uint32)
        first = self._start // self.page_size * self.page_size
        ranges = page_ranges(first, end, self.page_size, records_end)
        return end, np.array(
            [range_checksum(self._read_into, *each) for each in ranges], dtype=np.uint32
        )

    def _write(self, view: memoryview) -> None:
        write_exactly(self._descriptor, self._offset, view)
        self._checksum = zlib.crc32(view, self._checksum)
        self._offset += len(view)

    def _turn_page(self, size: int) -> None:
        """Open a new page that holds at least `size` bytes."""
        self._close_page()
        while self.page_size < size:
            self.page_size *= 2
        self._offset = align_up(self._page_end, self.page_size)
        self._page_end = self._offset + self.page_size

    def _close_page(self) -> None:
        """Bring the checksum of the open page, if there is one, to its end; the zeros themselves are a hole in the file."""
        if self._page_end == self._start:
            return
        for position in range(self._offset, self._page_end, len(_ZEROS)):
            self._checksum = zlib.crc32(_ZEROS[: self._page_end - position], self._checksum)
        self._checksums.append(self._checksum)
        self._checksum = 0

    def _read_into(self, offset: int, buffer: memoryview) -> None:
        read_exactly(self._descriptor, offset, buffer, "the temporary file")
