"""Training in several processes, as `torchrun` starts them; in one process everything here does nothing."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta

import torch
from torch import distributed as dist

from ffcv_ssl.errors import ConfigError, TrainingStopped
from ffcv_ssl.system.cores import allowed_cores
from ffcv_ssl.train.config import TrainConfig

LONGEST_WAIT = timedelta(hours=12)  # for another process, which may evaluate meanwhile; torchrun ends all when one dies
BACKENDS = {"cpu": "gloo", "cuda": "cpu:gloo,cuda:nccl"}  # numbers in host memory always go through gloo, see `highest`


def local_rank() -> int | None:
    """This process's number among those that `torchrun` started on this machine; None without torchrun."""
    is_launched = all(name in os.environ for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
    return int(os.environ["LOCAL_RANK"]) if is_launched else None


def rank() -> int:
    """This process's number in the group; 0 without one."""
    return dist.get_rank() if _is_joined() else 0


def world_size() -> int:
    """Number of processes in the group; 1 without one."""
    return dist.get_world_size() if _is_joined() else 1


def is_main() -> bool:
    """Whether this process writes files and evaluates."""
    return rank() == 0


def _is_joined() -> bool:
    return dist.is_available() and dist.is_initialized()


@contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """Join the processes that `torchrun` started, and leave them at the end; without torchrun, nothing.

    After an error that only this process knows of the group is not left but broken: leaving would wait for the others. The process ends
    with the error, and torchrun ends the others.

    Parameters
    ----------
    device
        Where this process computes, from `pick_device`: GPUs talk through NCCL, CPUs through gloo.
    """
    if local_rank() is None:
        yield
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group(BACKENDS[device.type], timeout=LONGEST_WAIT)
    try:
        yield
    except TrainingStopped:  # agreed on by all
        dist.destroy_process_group()
        raise
    dist.destroy_process_group()


def loader_threads(workers: int) -> int:
    """Threads of one process's loader: -1, one per core, means the cores shared among the processes that torchrun started here."""
    if workers != -1 or local_rank() is None:
        return workers
    return max(1, allowed_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def rank_batch_size(train: TrainConfig) -> int:
    """Images per step of one process.

    Raises
    ------
    ConfigError
        If the processes cannot share `train.batch_size` evenly.
    """
    if train.batch_size % world_size():
        raise ConfigError(
            f"train.batch_size: {train.batch_size} images cannot be shared evenly by {world_size()} processes; give a multiple."
        )
    return train.batch_size // world_size()


def highest(*values: float) -> list[float]:
    """Each value's highest over all processes, so that all decide alike. Every process calls this at the same point of the program."""
    return _over_processes(values, dist.ReduceOp.MAX) if world_size() > 1 else list(values)


def wait_for_all() -> None:
    """Go on when every process has come here."""
    highest(0)


def averaged(values: Mapping[str, float]) -> dict[str, float]:
    """Each value's mean over all processes; called by every process, like `highest`."""
    if world_size() == 1:
        return dict(values)
    sums = _over_processes(values.values(), dist.ReduceOp.SUM)
    return {name: total / world_size() for name, total in zip(values, sums, strict=True)}


def _over_processes(values, operation) -> list[float]:
    numbers = torch.tensor([float(value) for value in values], dtype=torch.float64)
    dist.all_reduce(numbers, operation)
    return numbers.tolist()
