"""Which samples come when: a pure function of seed, epoch, rank and world size."""

from dataclasses import dataclass
from enum import Enum

import numpy as np

from ffcv_ssl.errors import PipelineError
from ffcv_ssl.loader.order.page_order import PageLayout, PageSchedule, hashes
from ffcv_ssl.loader.order.sampling import Weights, occurrences


class OrderOption(Enum):
    """Order of an epoch.

    SEQUENTIAL is the order of the indices, RANDOM any order. QUASI_RANDOM is for files larger than memory: it shuffles the pages of the
    file, then the samples within groups of pages.
    """

    SEQUENTIAL = "sequential"
    RANDOM = "random"
    QUASI_RANDOM = "quasi_random"


@dataclass(frozen=True)
class EpochOrder:
    """The order of one epoch, over all ranks.

    Parameters
    ----------
    sample_ids
        (N,) int64.
    schedule
        When which pages are used, in quasi-random order.
    occurrences
        (N,) int64, for each place the number of earlier places that hold the same sample. None: no
        sample comes twice.
    """

    sample_ids: np.ndarray
    schedule: PageSchedule | None = None
    occurrences: np.ndarray | None = None


@dataclass(frozen=True)
class Selection:
    """Which samples an epoch is made of.

    Parameters
    ----------
    indices
        (N,) int64 sample ids.
    weights
        Of each of them, where N samples are drawn with replacement; None: each comes once.
    has_repeats
        Whether a sample may come twice.
    """

    indices: np.ndarray
    weights: Weights | None
    has_repeats: bool


def epoch_order(
    order: OrderOption, selection: Selection, layout: PageLayout | None, seed: int, epoch: int
) -> EpochOrder:
    """Return the order of one epoch, a pure function of all arguments; `layout` is needed for a quasi-random one."""
    sample_ids, weights, schedule = selection.indices, selection.weights, None
    drawn = None if weights is None else weights.draw(seed, epoch)
    if order is OrderOption.QUASI_RANDOM:
        assert layout is not None
        layout = layout if drawn is None else layout.drawn(drawn)
        positions, schedule = layout.shuffle(seed, epoch)
        drawn = positions if drawn is None else drawn[positions]
    elif order is OrderOption.RANDOM and drawn is None:  # draws are in random order as they are
        drawn = np.argsort(hashes("order", seed, epoch, np.arange(len(sample_ids))), kind="stable")
    if drawn is not None:
        sample_ids = sample_ids[drawn]
    counts = occurrences(sample_ids) if selection.has_repeats else None
    return EpochOrder(sample_ids, schedule, counts)


def num_batches(num_samples: int, batch_size: int, world_size: int, drop_last: bool) -> int:
    """Return the number of batches of an epoch, the same on every rank."""
    step = batch_size * world_size
    return num_samples // step if drop_last else -(-num_samples // step)


@dataclass(frozen=True)
class EpochPosition:
    """One rank's share of one step of an epoch.

    Parameters
    ----------
    epoch
        Number of the epoch.
    order
        Of the epoch, over all ranks.
    start, stop
        The step, in the global order.
    rank, world_size
        Whose share.
    """

    epoch: int
    order: EpochOrder
    start: int
    stop: int
    rank: int
    world_size: int

    def sample_ids(self) -> np.ndarray:
        """Return the share's samples, (B,) int64.

        In a last, shorter step the ranks' shares differ by at most one sample; where there are fewer samples than ranks, the ranks
        left over get the first sample of the step, so that all take equally many steps.
        """
        step = self.order.sample_ids[self.start : self.stop]
        share = step[self.rank :: self.world_size]
        return (share if len(share) else step[:1]).copy()

    def occurrences(self) -> np.ndarray | None:
        """Return which of a sample's places in the epoch each is, (B,) int64; None: the first.

        A rank that is left over fills a place that is not in the order (`further_occurrence`).
        """
        if self.start + self.rank >= len(self.order.sample_ids):
            return self.further_occurrence(0)
        if self.order.occurrences is None:
            return None
        return self.order.occurrences[self.start : self.stop][self.rank :: self.world_size]

    def further_occurrence(self, position: int) -> np.ndarray:
        """Return the occurrence, (1,) int64, of a sample that fills a place that is not its own.

        It is the length of the epoch plus the place (counted over all ranks). No place of the order
        has it, nor any other position, so the views come nowhere else in the epoch.
        """
        place = self.start + position * self.world_size + self.rank
        return np.array([len(self.order.sample_ids) + place])

    def following(self, position: int, count: int) -> np.ndarray:
        """Return up to `count` samples behind the step, in the global order, that may stand in for the share's sample `position`."""
        first = self.stop + position * self.world_size + self.rank
        sample_ids = self.order.sample_ids
        return sample_ids[np.arange(first, first + min(count, len(sample_ids))) % len(sample_ids)]


def check_indices(indices, num_samples: int, path: str) -> np.ndarray:
    """Return sample ids as (N,) int64: all of them for None; a bool mask, a list, a tensor or an array of integers otherwise.

    Raises
    ------
    PipelineError
        If an index is not an integer or not in the file.
    """
    if indices is None:
        return np.arange(num_samples, dtype=np.int64)
    array = np.asarray(indices)
    if array.ndim != 1:
        raise PipelineError(f"{path}: indices are one-dimensional, got shape {array.shape}.")
    if array.dtype == bool:
        if len(array) != num_samples:
            raise PipelineError(
                f"{path}: a mask needs one entry per sample, got {len(array)} for {num_samples} samples."
            )
        return np.flatnonzero(array)
    if array.size and not np.issubdtype(array.dtype, np.integer):
        raise PipelineError(f"{path}: indices are integers, got {array.dtype}.")
    outside = array[(array < 0) | (array >= num_samples)] if array.size else array
    if len(outside):
        raise PipelineError(f"{path}: index {outside[0]} is outside 0..{num_samples - 1}.")
    return array.astype(np.int64)
