"""Quasi-random order for files larger than memory: shuffle the file's pages, then the samples within groups of pages."""

import contextlib
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import numpy as np

from ffcv_ssl.beton.reader import BetonReader
from ffcv_ssl.transforms.keys import absorb, as_words, column_word

WORD_BITS, GROUP_BITS = (
    np.uint64(64),
    np.uint64(24),
)  # one sort by (group, hash), three times as fast as two; 2^24 pages are 32 TiB at least


@dataclass(frozen=True)
class PageLayout:
    """Where the selected samples lie.

    Parameters
    ----------
    numbers
        (P,) int64, ascending: the pages that hold samples; page k is bytes [k · page_size, (k + 1) · page_size) of the file.
    pages
        (N,) int64, for each selected sample its place in `numbers`.
    is_dense
        (P,) bool, whether a page is worth reading as a whole.
    group_pages
        Pages whose samples are mixed with each other, at least 1.
    """

    numbers: np.ndarray
    pages: np.ndarray
    is_dense: np.ndarray
    group_pages: int

    def drawn(self, positions: np.ndarray) -> "PageLayout":
        """Return the layout of some samples, (M,) positions, any of them several times."""
        return _layout(self.numbers, self.pages[positions], self.is_dense, self.group_pages)

    def shuffle(self, seed: int, epoch: int) -> tuple[np.ndarray, "PageSchedule"]:
        """Return the order of one epoch, (N,) positions in the selection, and when it uses which page."""
        count = len(self.numbers)
        num_groups = -(-count // self.group_pages)
        in_turn = np.argsort(hashes("order.pages", seed, epoch, self.numbers), kind="stable")
        group_of_turn = (
            np.arange(count) * num_groups // max(count, 1)
        )  # groups differ by at most one page
        group_of_page = np.empty(count, np.int64)
        group_of_page[in_turn] = group_of_turn
        groups = group_of_page[self.pages]
        within = hashes("order", seed, epoch, np.arange(len(groups))) >> GROUP_BITS
        order = np.argsort(
            groups.astype(np.uint64) << (WORD_BITS - GROUP_BITS) | within, kind="stable"
        )
        page_starts = np.searchsorted(group_of_turn, np.arange(num_groups + 1))
        sample_starts = np.append(0, np.cumsum(np.bincount(groups, minlength=num_groups)))
        return order, PageSchedule(
            self.numbers[in_turn], self.is_dense[in_turn], page_starts, sample_starts
        )


@dataclass(frozen=True)
class PageSchedule:
    """When an epoch uses which pages.

    Parameters
    ----------
    numbers
        (P,) int64, the pages in the order of their use.
    is_dense
        (P,) bool, which of them are worth reading as a whole.
    page_starts, sample_starts
        (groups + 1,) int64: where each group begins among the pages, and in the order of the samples.
    """

    numbers: np.ndarray
    is_dense: np.ndarray
    page_starts: np.ndarray
    sample_starts: np.ndarray

    def first_page(self, position: int) -> int:
        """Return the place in `numbers` of the first page of the group that `position` lies in."""
        return int(
            self.page_starts[np.searchsorted(self.sample_starts, position, side="right") - 1]
        )

    def pages_ahead(self, position: int) -> int:
        """Return how many pages should have been asked for at `position`: its group's, and as large a part of the next group's."""
        following = np.append(self.page_starts[1:], self.page_starts[-1])
        return int(np.interp(position, self.sample_starts, following))


class ReadAhead:
    """Asks the kernel for pages before their samples are read, group by group, never more than a group ahead.

    Reading 2 GB of photos, uncached, in this order with 2 threads took 1.25 s with it and 1.9 s without (virtual disk).

    Parameters
    ----------
    reader
        The open file.
    schedule
        Of the epoch.
    position
        Where in the epoch reading begins.
    """

    def __init__(self, reader: BetonReader, schedule: PageSchedule, position: int):
        self._reader, self._schedule = reader, schedule
        self._asked = schedule.first_page(position)

    def advance(self, position: int) -> list[Callable[[], None]]:
        """Return jobs, one per page, that ask for what is needed once samples up to `position` are being read."""
        first, self._asked = self._asked, max(self._asked, self._schedule.pages_ahead(position))
        pages = slice(first, self._asked)
        numbers = self._schedule.numbers[pages][self._schedule.is_dense[pages]].tolist()
        return (
            [partial(ask_for, self._reader, number) for number in numbers]
            if hasattr(os, "posix_fadvise")
            else []
        )


def ask_for(reader: BetonReader, number: int) -> None:
    """Tell the kernel that a page will be read; it need not listen, and the file may be closed by now."""
    with contextlib.suppress(OSError, ValueError):
        os.posix_fadvise(
            reader.fileno(), number * reader.page_size, reader.page_size, os.POSIX_FADV_WILLNEED
        )


def page_layout(
    reader: BetonReader,
    indices: np.ndarray,
    fields: Iterable[str],
    shuffle_bytes: int,
    world_size: int,
) -> PageLayout:
    """Find the pages of the selected samples.

    Parameters
    ----------
    reader
        The open file.
    indices
        (N,) int64 sample ids.
    fields
        Stored fields that are read; they say which pages are worth reading as a whole, and change no order.
    shuffle_bytes
        Bytes of pages that may be in use at a time: a group takes half, so that with the one that follows it keeps within them.
    world_size
        Ranks that share the samples.
    """
    pages = sample_pages(reader)[indices]
    needed = np.zeros(len(indices))
    for _, sizes in stored_extents(reader, fields):
        needed += sizes[indices]
    is_dense = np.bincount(pages, needed) >= world_size * reader.page_size / 2
    group_pages = max(1, shuffle_bytes // (2 * reader.page_size))
    return _layout(np.arange(len(is_dense)), pages, is_dense, group_pages)


def _layout(
    numbers: np.ndarray, pages: np.ndarray, is_dense: np.ndarray, group_pages: int
) -> PageLayout:
    """Lay out samples on `pages` (places in `numbers`); pages without samples are left out."""
    used = np.bincount(pages, minlength=len(numbers)) > 0
    return PageLayout(numbers[used], (np.cumsum(used) - 1)[pages], is_dense[used], group_pages)


def sample_pages(reader: BetonReader) -> np.ndarray:
    """Return the page of every sample, (num_samples,) int64: that of any of its stored values, as all lie in one, else of its record."""
    pages = np.arange(reader.num_samples) * reader.records.dtype.itemsize // reader.page_size
    for pointers, sizes in stored_extents(reader, reader.fields):
        np.copyto(
            pages, (pointers // np.uint64(reader.page_size)).astype(np.int64), where=sizes > 0
        )
    return pages


def stored_extents(
    reader: BetonReader, fields: Iterable[str]
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return pointers and sizes of those fields that store their values in pages."""
    return [reader.extents(name) for name in fields if reader.fields[name].pointer_name is not None]


def hashes(name: str, seed: int, epoch: int, numbers: np.ndarray) -> np.ndarray:
    """Return one uint64 hash per number, a pure function of all arguments."""
    return absorb(
        absorb(absorb(as_words(column_word(name)), as_words(seed)), as_words(epoch)),
        as_words(numbers),
    )
