"""Read-ahead of the pages of a quasi-random order."""

import contextlib
import os
from collections.abc import Callable
from functools import partial

from ffcv_ssl.beton.reader import BetonReader
from ffcv_ssl.loader.order.page_order import PageSchedule


class PageReadAhead:
    """Requests of pages from the operating system before the loader reads their samples.

    At most one group of pages is requested ahead. Reading 2 GB of photos in this order, uncached,
    with 2 threads, took 1.25 s with these requests and 1.9 s without (virtual disk).

    Parameters
    ----------
    reader
        The open file.
    schedule
        Pages of the epoch.
    position
        Position of the order where the epoch begins; not 0 if the epoch is resumed.
    """

    def __init__(self, reader: BetonReader, schedule: PageSchedule, position: int):
        self._reader, self._schedule = reader, schedule
        self._num_requested = schedule.first_page(position)

    def advance(self, position: int) -> list[Callable[[], None]]:
        """Return the requests that are due before the samples up to a position are read.

        Parameters
        ----------
        position
            Position of the order.

        Returns
        -------
        list of callables
            One job per page that was not requested before.
        """
        if not hasattr(os, "posix_fadvise"):
            return []
        first = self._num_requested
        self._num_requested = max(first, self._schedule.num_pages_needed(position))
        pages = slice(first, self._num_requested)
        numbers = self._schedule.page_numbers[pages][self._schedule.is_dense[pages]]
        return [partial(request_page, self._reader, number) for number in numbers.tolist()]


def request_page(reader: BetonReader, page_number: int) -> None:
    """Tell the operating system that a page will be read soon.

    The request is a hint, so errors are ignored; the file may be closed by now.

    Parameters
    ----------
    reader
        The open file.
    page_number
        Number of the page in the file.
    """
    with contextlib.suppress(OSError, ValueError):
        offset = page_number * reader.page_size
        os.posix_fadvise(reader.fileno(), offset, reader.page_size, os.POSIX_FADV_WILLNEED)
