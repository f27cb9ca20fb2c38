"""Packing of the stored bytes of samples into the pages of a growing file."""

from __future__ import annotations

import os
import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ffcv_ssl.beton.format.integrity import page_ranges, range_checksum
from ffcv_ssl.beton.format.layout import align_up
from ffcv_ssl.system.files import read_exactly, write_exactly

_ZEROS = memoryview(bytes(1 << 20))


class PageWriter:
    """Writer that appends samples to pages and computes the checksum of each page.

    A sample that is larger than a page raises the page size. Pages are aligned to the start of the
    file, so earlier samples still lie inside one page each. The checksums of a file whose page size
    was raised are computed by reading its pages at the end.

    Parameters
    ----------
    descriptor
        Descriptor of a file that is open for reading and writing.
    start
        File offset of the first page, a multiple of the page size.
    page_size
        Initial page size in bytes.
    """

    def __init__(self, descriptor: int, start: int, page_size: int) -> None:
        self.page_size = page_size
        self._descriptor = descriptor
        self._start = start
        self._offset = start  # file offset of the next byte
        self._page_end = start  # no page is open yet
        self._first_page_size = page_size
        self._checksum = 0
        self._checksums: list[int] = []

    def append(self, payload: bytes | bytearray | memoryview, sizes: Sequence[int]) -> list[int]:
        """Write samples, each inside one page.

        Parameters
        ----------
        payload
            The bytes of all samples, one after the other.
        sizes
            Size of each sample in bytes, at most the largest page size.

        Returns
        -------
        list of int
            File offset of each sample.
        """
        view = memoryview(payload)
        offsets = []
        run_start = position = 0  # in `payload`: the samples that go to the open page
        for size in sizes:
            if self._offset + position - run_start + size > self._page_end:
                self._write(view[run_start:position])
                self._open_page(size)
                run_start = position
            offsets.append(self._offset + position - run_start)
            position += size
        self._write(view[run_start:position])
        return offsets

    def finish(self, records_end: int) -> tuple[int, NDArray[np.uint32]]:
        """Pad the last page.

        Parameters
        ----------
        records_end
            File offset where the records end. Checksums do not cover bytes before it.

        Returns
        -------
        end : int
            File offset behind the last page.
        checksums : numpy.ndarray
            (P,) uint32 CRC-32 of the last P pages.
        """
        self._close_page()
        end = align_up(self._page_end, self.page_size)
        os.ftruncate(self._descriptor, end)
        if self.page_size == self._first_page_size:
            return end, np.array(self._checksums, dtype=np.uint32)
        first = self._start // self.page_size * self.page_size
        ranges = page_ranges(first, end, self.page_size, records_end)
        checksums = [range_checksum(self._read_into, *each) for each in ranges]
        return end, np.array(checksums, dtype=np.uint32)

    def _write(self, view: memoryview) -> None:
        write_exactly(self._descriptor, self._offset, view)
        self._checksum = zlib.crc32(view, self._checksum)
        self._offset += len(view)

    def _open_page(self, size: int) -> None:
        """Close the open page and open one that holds at least `size` bytes."""
        self._close_page()
        while self.page_size < size:
            self.page_size *= 2
        self._offset = align_up(self._page_end, self.page_size)
        self._page_end = self._offset + self.page_size

    def _close_page(self) -> None:
        """Complete the checksum of the open page; its padding is a hole in the file."""
        if self._page_end == self._start:
            return
        for position in range(self._offset, self._page_end, len(_ZEROS)):
            self._checksum = zlib.crc32(_ZEROS[: self._page_end - position], self._checksum)
        self._checksums.append(self._checksum)
        self._checksum = 0

    def _read_into(self, offset: int, buffer: memoryview) -> None:
        read_exactly(self._descriptor, offset, buffer, "the temporary file")
