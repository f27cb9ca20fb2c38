"""Quasi-random order for files larger than memory.

It shuffles the pages of the file, then the samples within groups of consecutive pages.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ffcv_ssl.beton.reader import BetonReader
from ffcv_ssl.transforms.keys import absorb, as_words, column_word

# One sort by (group, hash) is three times as fast as two. A group number has 24 bits: 2^24 pages
# are at least 32 TiB.
WORD_BITS, GROUP_BITS = np.uint64(64), np.uint64(24)


@dataclass(frozen=True)
class PageLayout:
    """Pages of the selected samples.

    Parameters
    ----------
    page_numbers
        (P,) int64, ascending: the pages that contain selected samples. Page k consists of the bytes
        [k · page_size, (k + 1) · page_size) of the file.
    page_indices
        (N,) int64, for each selected sample the index of its page in `page_numbers`.
    is_dense
        (P,) bool, whether to read the page ahead as a whole.
    pages_per_group
        Number of pages whose samples are shuffled together, >= 1.
    """

    page_numbers: NDArray[np.int64]
    page_indices: NDArray[np.int64]
    is_dense: NDArray[np.bool_]
    pages_per_group: int

    def select(self, positions: NDArray[np.int64]) -> "PageLayout":
        """Return the layout of some of the samples.

        Parameters
        ----------
        positions
            (M,) positions in the selection; a position may occur several times.

        Returns
        -------
        PageLayout
            The layout of these M samples.
        """
        return _layout(
            self.page_numbers, self.page_indices[positions], self.is_dense, self.pages_per_group
        )

    def shuffle(self, seed: int, epoch: int) -> tuple[NDArray[np.int64], "PageSchedule"]:
        """Draw the order of one epoch.

        Parameters
        ----------
        seed, epoch
            Seed of the loader, and number of the epoch.

        Returns
        -------
        order
            (N,) int64 positions in the selection.
        schedule
            The pages in the order in which the epoch uses them.
        """
        num_pages = len(self.page_numbers)
        num_groups = -(-num_pages // self.pages_per_group)
        page_hashes = hashes("order.pages", seed, epoch, self.page_numbers)
        shuffled_pages = np.argsort(page_hashes, kind="stable")
        # Groups differ by at most one page.
        shuffled_groups = np.arange(num_pages) * num_groups // max(num_pages, 1)
        group_of_page = np.empty(num_pages, np.int64)
        group_of_page[shuffled_pages] = shuffled_groups
        groups = group_of_page[self.page_indices]
        sample_hashes = hashes("order", seed, epoch, np.arange(len(groups))) >> GROUP_BITS
        sort_keys = groups.astype(np.uint64) << (WORD_BITS - GROUP_BITS) | sample_hashes
        order = np.argsort(sort_keys, kind="stable")
        page_starts = np.searchsorted(shuffled_groups, np.arange(num_groups + 1))
        sample_starts = np.append(0, np.cumsum(np.bincount(groups, minlength=num_groups)))
        return order, PageSchedule(
            self.page_numbers[shuffled_pages],
            self.is_dense[shuffled_pages],
            page_starts,
            sample_starts,
        )


@dataclass(frozen=True)
class PageSchedule:
    """Pages in the order in which an epoch uses them.

    Parameters
    ----------
    page_numbers
        (P,) int64, the pages in the order of their use.
    is_dense
        (P,) bool, whether to read the page ahead as a whole.
    page_starts, sample_starts
        (groups + 1,) int64: for each group the index of its first page in `page_numbers`, and the
        position of its first sample in the order.
    """

    page_numbers: NDArray[np.int64]
    is_dense: NDArray[np.bool_]
    page_starts: NDArray[np.int64]
    sample_starts: NDArray[np.int64]

    def first_page(self, position: int) -> int:
        """Return the index of the first page of the group that contains a position of the order."""
        group = np.searchsorted(self.sample_starts, position, side="right") - 1
        return int(self.page_starts[group])

    def num_pages_needed(self, position: int) -> int:
        """Return how many pages to request before the sample at a position of the order is read.

        These are the pages of the sample's group and, in proportion to the part of the group that
        has been read, pages of the next group.
        """
        next_starts = np.append(self.page_starts[1:], self.page_starts[-1])
        return int(np.interp(position, self.sample_starts, next_starts))


def page_layout(
    reader: BetonReader,
    indices: NDArray[np.int64],
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
        Stored fields that the loader reads. They determine which pages to read ahead as a whole;
        the order does not depend on them.
    shuffle_bytes
        Bytes of pages in use at a time. A group of pages takes half of them, because the next
        group is read ahead.
    world_size
        Number of ranks that share the samples.

    Returns
    -------
    PageLayout
        The pages and groups.
    """
    pages = sample_pages(reader)[indices]
    bytes_read = np.zeros(len(indices))
    for _, sizes in stored_extents(reader, fields):
        bytes_read += sizes[indices]
    is_dense = np.bincount(pages, bytes_read) >= world_size * reader.page_size / 2
    pages_per_group = max(1, shuffle_bytes // (2 * reader.page_size))
    return _layout(np.arange(len(is_dense)), pages, is_dense, pages_per_group)


def _layout(
    page_numbers: NDArray[np.int64],
    page_indices: NDArray[np.int64],
    is_dense: NDArray[np.bool_],
    pages_per_group: int,
) -> PageLayout:
    """Return the layout of samples on pages, without the pages that contain none of them."""
    is_used = np.bincount(page_indices, minlength=len(page_numbers)) > 0
    new_indices = np.cumsum(is_used) - 1
    return PageLayout(
        page_numbers[is_used], new_indices[page_indices], is_dense[is_used], pages_per_group
    )


def sample_pages(reader: BetonReader) -> NDArray[np.int64]:
    """Return the page of every sample.

    Parameters
    ----------
    reader
        The open file.

    Returns
    -------
    numpy.ndarray
        (num_samples,) int64 page numbers. All stored values of a sample are in one page; a sample
        without stored values gets the page of its record.
    """
    pages = np.arange(reader.num_samples) * reader.records.dtype.itemsize // reader.page_size
    for pointers, sizes in stored_extents(reader, reader.fields):
        value_pages = (pointers // np.uint64(reader.page_size)).astype(np.int64)
        np.copyto(pages, value_pages, where=sizes > 0)
    return pages


def stored_extents(
    reader: BetonReader, fields: Iterable[str]
) -> list[tuple[NDArray[np.uint64], NDArray[np.uint64]]]:
    """Return pointers and sizes of the values of those fields that have values in pages.

    Parameters
    ----------
    reader
        The open file.
    fields
        Names of stored fields.

    Returns
    -------
    list of pairs
        (num_samples,) file offsets and (num_samples,) sizes in bytes, for each such field.
    """
    return [reader.extents(name) for name in fields if reader.fields[name].pointer_name is not None]


def hashes(name: str, seed: int, epoch: int, numbers: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Hash numbers, a pure function of all arguments.

    Parameters
    ----------
    name
        Purpose of the hashes; different names give independent hashes.
    seed, epoch
        Seed of the loader, and number of the epoch.
    numbers
        (N,) integers.

    Returns
    -------
    numpy.ndarray
        (N,) uint64.
    """
    state = absorb(as_words(column_word(name)), as_words(seed))
    return absorb(absorb(state, as_words(epoch)), as_words(numbers))
