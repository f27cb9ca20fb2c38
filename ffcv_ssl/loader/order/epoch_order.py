"""Order of the samples of an epoch: a pure function of seed, epoch, rank and world size."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from ffcv_ssl.errors import PipelineError
from ffcv_ssl.loader.order.page_order import PageLayout, PageSchedule, hashes
from ffcv_ssl.loader.order.sampling import Weights, occurrences


class OrderOption(Enum):
    """Order of the samples of an epoch.

    Attributes
    ----------
    SEQUENTIAL
        The order of `indices`, or of the file.
    RANDOM
        A random permutation of all samples.
    QUASI_RANDOM
        For files larger than memory: a random permutation of the file's pages, then a random
        permutation of the samples within each group of consecutive pages.
    """

    SEQUENTIAL = "sequential"
    RANDOM = "random"
    QUASI_RANDOM = "quasi_random"


@dataclass(frozen=True)
class EpochOrder:
    """Order of one epoch, over all ranks.

    Parameters
    ----------
    sample_ids
        (N,) int64 sample ids in the order in which the loader uses them.
    schedule
        Pages in the order in which the epoch uses them; None unless the order is quasi-random.
    occurrences
        (N,) int64, for each position the number of earlier positions with the same sample. None if
        no sample occurs twice.
    """

    sample_ids: NDArray[np.int64]
    schedule: PageSchedule | None = None
    occurrences: NDArray[np.int64] | None = None


@dataclass(frozen=True)
class Selection:
    """The samples of an epoch.

    Parameters
    ----------
    indices
        (N,) int64 sample ids.
    weights
        Sampling weights of these samples if an epoch consists of N draws with replacement. None if
        each of them occurs once.
    has_repeats
        Whether a sample can occur twice in an epoch.
    """

    indices: NDArray[np.int64]
    weights: Weights | None
    has_repeats: bool


def epoch_order(
    order: OrderOption,
    selection: Selection,
    layout: PageLayout | None,
    seed: int,
    epoch: int,
) -> EpochOrder:
    """Return the order of one epoch, a pure function of all arguments.

    Parameters
    ----------
    order
        Kind of order.
    selection
        The samples of an epoch.
    layout
        Pages of the selected samples; needed for a quasi-random order only.
    seed, epoch
        Seed of the loader, and number of the epoch.

    Returns
    -------
    EpochOrder
        The order over all ranks.
    """
    sample_ids, weights, schedule = selection.indices, selection.weights, None
    positions = None if weights is None else weights.draw(seed, epoch)
    if order is OrderOption.QUASI_RANDOM:
        assert layout is not None
        layout = layout if positions is None else layout.select(positions)
        shuffled, schedule = layout.shuffle(seed, epoch)
        positions = shuffled if positions is None else positions[shuffled]
    elif order is OrderOption.RANDOM and positions is None:  # weighted draws are in random order
        keys = hashes("order", seed, epoch, np.arange(len(sample_ids)))
        positions = np.argsort(keys, kind="stable")
    if positions is not None:
        sample_ids = sample_ids[positions]
    counts = occurrences(sample_ids) if selection.has_repeats else None
    return EpochOrder(sample_ids, schedule, counts)


def num_batches(num_samples: int, batch_size: int, world_size: int, drop_last: bool) -> int:
    """Return the number of batches of an epoch, which is the same on every rank.

    Parameters
    ----------
    num_samples
        Number of samples over all ranks.
    batch_size
        Samples per batch and rank.
    world_size
        Number of ranks.
    drop_last
        Whether the last, shorter batch is dropped.

    Returns
    -------
    int
        Number of batches per rank.
    """
    step = batch_size * world_size
    return num_samples // step if drop_last else -(-num_samples // step)


@dataclass(frozen=True)
class EpochStep:
    """One step of an epoch, as one rank sees it.

    In a step all ranks together use the samples at positions `start` to `stop - 1` of the order.
    Rank r takes every `world_size`-th of them, beginning at position `start + r`.

    Parameters
    ----------
    epoch
        Number of the epoch.
    order
        Order of the epoch, over all ranks.
    start, stop
        Range of positions of the step, over all ranks.
    rank, world_size
        Number of this rank, and number of ranks.
    """

    epoch: int
    order: EpochOrder
    start: int
    stop: int
    rank: int
    world_size: int

    def sample_ids(self) -> NDArray[np.int64]:
        """Return the sample ids of this rank's batch, (B,) int64.

        In a last, shorter step the batches of the ranks differ by at most one sample. If the step
        has fewer samples than ranks, the remaining ranks use its first sample, so that all ranks
        take the same number of steps.
        """
        step = self.order.sample_ids[self.start : self.stop]
        batch = step[self.rank :: self.world_size]
        return (batch if len(batch) else step[:1]).copy()

    def occurrences(self) -> NDArray[np.int64] | None:
        """Return the occurrence number of each sample of this rank's batch.

        Returns
        -------
        numpy.ndarray or None
            (B,) int64, see `EpochOrder.occurrences`. None if all are 0. A rank for which the step
            has no sample gets an `extra_occurrence`.
        """
        if self.start + self.rank >= len(self.order.sample_ids):
            return self.extra_occurrence(0)
        if self.order.occurrences is None:
            return None
        return self.order.occurrences[self.start : self.stop][self.rank :: self.world_size]

    def extra_occurrence(self, index: int) -> NDArray[np.int64]:
        """Return the occurrence number for a sample that the order does not have at a position.

        The number is the length of the epoch plus the position in the order. No sample of the
        order has this number, nor does any other position, so the views are unique in the epoch.

        Parameters
        ----------
        index
            Index in this rank's batch.

        Returns
        -------
        numpy.ndarray
            (1,) int64.
        """
        position = self.start + index * self.world_size + self.rank
        return np.array([len(self.order.sample_ids) + position])

    def substitutes(self, index: int, count: int) -> NDArray[np.int64]:
        """Return samples that can replace an unreadable sample: those that follow in the order.

        Parameters
        ----------
        index
            Index of the unreadable sample in this rank's batch.
        count
            Largest number of substitutes.

        Returns
        -------
        numpy.ndarray
            (at most `count`,) int64 sample ids behind the step, from the beginning of the order
            again after its end.
        """
        first = self.stop + index * self.world_size + self.rank
        sample_ids = self.order.sample_ids
        num_samples = len(sample_ids)
        return sample_ids[np.arange(first, first + min(count, num_samples)) % num_samples]


def check_indices(
    indices: Sequence[int] | NDArray[np.integer | np.bool_] | None, num_samples: int, path: str
) -> NDArray[np.int64]:
    """Convert the argument `indices` of `Loader` to sample ids.

    Parameters
    ----------
    indices
        Integers, a bool mask with one entry per sample, or None for all samples.
    num_samples
        Number of samples of the file.
    path
        Path of the file, for messages.

    Returns
    -------
    numpy.ndarray
        (N,) int64 sample ids.

    Raises
    ------
    PipelineError
        If the indices are not one-dimensional, not integers, or not in the file.
    """
    if indices is None:
        return np.arange(num_samples, dtype=np.int64)
    array = np.asarray(indices)
    if array.ndim != 1:
        raise PipelineError(f"{path}: indices must be one-dimensional, got shape {array.shape}.")
    if array.dtype == bool:
        if len(array) != num_samples:
            raise PipelineError(
                f"{path}: a mask of indices needs one entry per sample ({num_samples}), "
                f"got {len(array)}."
            )
        return np.flatnonzero(array)
    if array.size and not np.issubdtype(array.dtype, np.integer):
        raise PipelineError(f"{path}: indices must be integers, got {array.dtype}.")
    outside = array[(array < 0) | (array >= num_samples)] if array.size else array
    if len(outside):
        raise PipelineError(f"{path}: indices must be in 0..{num_samples - 1}, got {outside[0]}.")
    return array.astype(np.int64)
