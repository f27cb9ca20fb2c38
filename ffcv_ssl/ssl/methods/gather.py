"""Communication between training processes: all embeddings for the loss, averaged gradients."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist


class _Gather(torch.autograd.Function):
    """Differentiable all-gather; backward, each rank gets its part of the sum of gradients.

    torch's own differentiable all_gather is deprecated (2.13), and its successor is private.
    """

    @staticmethod
    def forward(ctx: Any, embeddings: Tensor) -> Tensor:
        parts = [torch.empty_like(embeddings) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, embeddings)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        gradient = gradient.contiguous().clone()
        dist.all_reduce(gradient)
        return gradient.chunk(dist.get_world_size())[dist.get_rank()]


def gather(embeddings: Tensor) -> Tensor:
    """Concatenate the embeddings of all processes.

    Each process can then compute the loss of the whole batch.
    The gradient with respect to a process's own embeddings is the sum over the W processes, W times
    the gradient of the loss. `DistributedDataParallel` averages over processes, so the gradients of
    the parameters equal those of one process with the whole batch.

    Parameters
    ----------
    embeddings
        (B, V, D) floating point, with the same shape in all processes.

    Returns
    -------
    (W * B, V, D), identical in all processes, in the order of ranks. Without a process group,
    `embeddings` itself.
    """
    if not _has_process_group():
        return embeddings
    apply: Callable[[Tensor], Tensor] = _Gather.apply  # torch does not annotate it
    return apply(embeddings.contiguous())


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace each gradient by its mean over processes; do nothing without a process group.

    Modules outside of `DistributedDataParallel` need this before an optimizer step.

    Parameters
    ----------
    parameters
        Parameters, in the same order in all processes. Those without gradient are skipped.
    """
    if _has_process_group():
        for parameter in parameters:
            if parameter.grad is not None:
                dist.all_reduce(parameter.grad)
                parameter.grad /= dist.get_world_size()


def _has_process_group() -> bool:
    """Whether this process belongs to an initialized process group."""
    return dist.is_available() and dist.is_initialized()
