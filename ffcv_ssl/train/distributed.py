"""Training in several processes started by `torchrun`.

In a single process, these functions do nothing.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta

import torch
from torch import distributed as dist

from ffcv_ssl.errors import ConfigError, TrainingStopped
from ffcv_ssl.system.cores import allowed_cores
from ffcv_ssl.train.config import TrainConfig

# Another process may evaluate meanwhile. When one dies, torchrun ends the others.
LONGEST_WAIT = timedelta(hours=12)
# Numbers in host memory always use gloo; see `highest`.
BACKENDS = {"cpu": "gloo", "cuda": "cpu:gloo,cuda:nccl"}


def local_rank() -> int | None:
    """Return the rank of this process on its machine, or None without torchrun."""
    is_launched = all(name in os.environ for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
    return int(os.environ["LOCAL_RANK"]) if is_launched else None


def rank() -> int:
    """Return the rank of this process.

    Returns
    -------
    int
        Rank in the process group, 0..world_size-1; 0 without a process group.
    """
    return dist.get_rank() if _has_group() else 0


def world_size() -> int:
    """Return the number of processes.

    Returns
    -------
    int
        Size of the process group; 1 without a process group.
    """
    return dist.get_world_size() if _has_group() else 1


def is_main() -> bool:
    """Return whether this process evaluates and writes files.

    Returns
    -------
    bool
        True for rank 0, and without a process group.
    """
    return rank() == 0


def _has_group() -> bool:
    """Return whether this process has joined a process group."""
    return dist.is_available() and dist.is_initialized()


@contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """Join the process group of `torchrun` for the duration of the block.

    Without torchrun, the block runs in a single process. After an error that only this process has,
    the group is not destroyed, because that would wait for the other processes. The process ends
    with the error, and torchrun ends the others.

    Parameters
    ----------
    device
        Device of this process, from `pick_device`. GPUs communicate through NCCL, CPUs through
        gloo.

    Yields
    ------
    None
    """
    if local_rank() is None:
        yield
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group(BACKENDS[device.type], timeout=LONGEST_WAIT)
    try:
        yield
    except TrainingStopped:  # all processes have agreed to stop
        dist.destroy_process_group()
        raise
    dist.destroy_process_group()


def loader_threads(workers: int) -> int:
    """Return the number of loader threads of one process.

    Parameters
    ----------
    workers
        Configured number. -1 uses every core; under torchrun, the processes on a machine divide
        its cores.

    Returns
    -------
    int
        Number of threads, or -1 without torchrun.
    """
    if workers != -1 or local_rank() is None:
        return workers
    return max(1, allowed_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def rank_batch_size(train: TrainConfig) -> int:
    """Return the number of images per step of one process.

    Parameters
    ----------
    train
        Configuration whose `batch_size` counts the images of all processes.

    Returns
    -------
    int
        `batch_size` divided by the number of processes.

    Raises
    ------
    ConfigError
        If the number of processes does not divide `train.batch_size`.
    """
    if train.batch_size % world_size():
        raise ConfigError(
            f"train.batch_size: {train.batch_size} images cannot be divided evenly among "
            f"{world_size()} processes; give a multiple of {world_size()}."
        )
    return train.batch_size // world_size()


def highest(*values: float) -> list[float]:
    """Return the maximum of each value over all processes.

    Every process must call this at the same point of the program.
    """
    if world_size() == 1:
        return list(values)
    return _reduce(values, dist.ReduceOp.MAX)


def wait_for_all() -> None:
    """Wait until every process has called this function."""
    highest(0)


def averaged(values: Mapping[str, float]) -> dict[str, float]:
    """Return the mean of each value over all processes.

    Every process must call this at the same point of the program.
    """
    if world_size() == 1:
        return dict(values)
    sums = _reduce(values.values(), dist.ReduceOp.SUM)
    return {name: total / world_size() for name, total in zip(values, sums, strict=True)}


def _reduce(values: Iterable[float], operation: dist.ReduceOp.RedOpType) -> list[float]:
    """Reduce numbers over all processes, in float64."""
    numbers = torch.tensor([float(value) for value in values], dtype=torch.float64)
    dist.all_reduce(numbers, operation)
    found: list[float] = numbers.tolist()
    return found
