"""What processes that train together tell each other: embeddings, for losses that need the whole batch, and gradients."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist


class _Gather(torch.autograd.Function):
    """All ranks' tensors, one behind the other; backward, each rank's part of the gradients' sum over ranks.

    torch's own differentiable all_gather is deprecated (2.13), and its successor is private.
    """

    @staticmethod
    def forward(ctx: Any, embeddings: Tensor) -> Tensor:
        parts = [torch.empty_like(embeddings) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, embeddings)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]  # torch's stubs say Any
        gradient = gradient.contiguous().clone()
        dist.all_reduce(gradient)
        return gradient.chunk(dist.get_world_size())[dist.get_rank()]


def gather(embeddings: Tensor) -> Tensor:
    """Put the embeddings of all processes together: (B, V, D) on each of W to (W x B, V, D), the same on all.

    Every process then computes the loss of the whole batch. What flows back into its own embeddings is the sum over processes, W times
    the gradient of that loss; `DistributedDataParallel` takes the mean over processes, and the gradients of the parameters are those of
    the whole batch in one process. Without a process group nothing happens.

    Parameters
    ----------
    embeddings
        Floating point, of one shape in all processes; rank 0's come first.
    """
    if not _is_joined():
        return embeddings
    return _Gather.apply(embeddings.contiguous())


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace the gradients by their mean over processes, for what trains outside of `DistributedDataParallel`."""
    if _is_joined():
        for parameter in parameters:
            if parameter.grad is not None:
                dist.all_reduce(parameter.grad)
                parameter.grad /= dist.get_world_size()


def _is_joined() -> bool:
    return dist.is_available() and dist.is_initialized()
