"""What every method shares: views in, loss out, so that one loop trains them all."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from ffcv_ssl.ssl.methods.gather import gather

Logs = dict[str, Tensor]


def at_least_float32(values: Tensor) -> Tensor:
    """Half precision becomes float32; float32 and float64 stay."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


class Normalize(nn.Module):
    """Subtract a mean and divide by a deviation per channel.

    Views travel as uint8 and are normalized here, on the device that trains: a quarter of the bytes on the way, and the constants are
    saved with the model, so that no evaluation can use others. Floating-point views are taken as normalized already.

    Parameters
    ----------
    mean, std
        One value per channel, on the 0..255 scale; `std` > 0.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]):
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(1, -1, 1, 1))
        self.register_buffer("scale", 1 / torch.tensor(std, dtype=torch.float32).view(1, -1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Map (N, 3, H, W) uint8 to float32 in channels-last memory order, which convolutions prefer on CPU and GPU."""
        if images.dtype == torch.uint8:
            return (images.contiguous(memory_format=torch.channels_last).float() - self.mean) * self.scale
        return images.contiguous(memory_format=torch.channels_last)


@contextmanager
def running_statistics_kept(module: nn.Module) -> Iterator[None]:
    """Within the block batch normalization updates copies of its running statistics and count of batches.

    (To switch their tracking off would save other tensors for the backward pass, which a recomputation may not.)
    """
    normalizations = [part for part in module.modules() if isinstance(part, _BatchNorm)]
    kept = [(part, name, buffer) for part in normalizations for name, buffer in part.named_buffers(recurse=False)]
    for part, name, buffer in kept:
        setattr(part, name, buffer.clone())
    try:
        yield
    finally:
        for part, name, buffer in kept:
            setattr(part, name, buffer)


class Method(nn.Module):
    """A backbone, a projector and a loss on the embeddings of V views.

    A method's file holds its loss as a plain function of (B, V, D) embeddings and a subclass that implements `loss`, or `forward` where
    the loss takes more than the embeddings. Parameters that no optimizer trains have `requires_grad` False.

    Where memory is short the network works in passes, over some of the images or views, and may forget the activations of each. The loss
    still sees all embeddings at once, so that its gradient is that of the whole batch. This stands in for gradient accumulation, which
    would give a contrastive loss fewer images to compare.

    Parameters
    ----------
    backbone
        Maps (N, 3, H, W) images to (N, num_features) features.
    projector
        Maps features to embeddings (N, D).
    normalize
        What turns uint8 images into the backbone's input.

    Attributes
    ----------
    images_per_forward, views_per_forward
        How many images (of each process), at most, and how many views of each share one pass and with it their batch-normalization
        statistics. 0, unless set: all of them.
    recompute
        Whether the activations of a pass are forgotten and computed again in the backward pass: less memory, a third more time, the same
        gradients. False, unless set.
    uses_labels
        Whether `forward` also takes the (B,) int64 labels of the images.
    """

    uses_labels: ClassVar[bool] = False
    images_per_forward: int | None = None
    views_per_forward: int | None = None
    recompute = False

    def __init__(self, backbone: nn.Module, projector: nn.Module, normalize: Normalize):
        super().__init__()
        self.normalize = normalize
        self.backbone = backbone
        self.projector = projector

    def features(self, images: Tensor) -> Tensor:
        """Map (N, 3, H, W) images to the backbone's (N, num_features) features."""
        return self.backbone(self.normalize(images))

    def embed(self, views: Tensor) -> Tensor:
        """Map (B, V, 3, H, W) views to (B, V, D) embeddings."""
        return self.encode(views, lambda images: self.projector(self.features(images)))

    def encode(self, views: Tensor, encoder: Callable[[Tensor], Tensor]) -> Tensor:
        """Map (B, V, 3, H, W) views to (B, V, D) by `encoder` of (N, 3, H, W), in passes over some images and some of their views."""
        return torch.cat([torch.cat([self._encode_at_once(some, encoder) for some in row], dim=1) for row in self.passes(views)])

    def passes(self, values: Tensor) -> list[Sequence[Tensor]]:
        """Split (B, V, …) into the parts that share a forward pass: rows of images, and in each row groups of views."""
        num_rows = -(-len(values) // (self.images_per_forward or len(values)))
        rows = values.tensor_split(num_rows)  # as even as can be: batch normalization needs more than one image
        return [row.split(self.views_per_forward or values.shape[1], dim=1) for row in rows]

    def _encode_at_once(self, views: Tensor, encoder: Callable[[Tensor], Tensor]) -> Tensor:
        """One pass."""
        images = views.flatten(0, 1)
        if self.recompute and torch.is_grad_enabled():
            encoded = checkpoint(encoder, images, use_reentrant=False, context_fn=lambda: (nullcontext(), running_statistics_kept(self)))
        else:
            encoded = encoder(images)
        return encoded.unflatten(0, views.shape[:2])

    def loss(self, embeddings: Tensor) -> tuple[Tensor, Logs]:
        """Map (B, V, D) float32 embeddings to the scalar to minimise and detached scalars worth logging."""
        raise NotImplementedError(f"{type(self).__name__} defines no loss.")

    def forward(self, views: Tensor) -> tuple[Tensor, Logs]:
        """Loss of a batch of (B, V, 3, H, W) views, of all processes together; it is computed in float32, outside autocast."""
        embeddings = self.embed(views)
        with torch.autocast(views.device.type, enabled=False):
            return self.loss(gather(at_least_float32(embeddings)))

    def after_step(self, share_done: float) -> Logs:
        """Do what follows an optimizer step: nothing, unless a method says otherwise.

        Parameters
        ----------
        share_done
            Share of training done before the step, 0..1, the one that the step's learning rate followed.

        Returns
        -------
        Scalars worth logging with the step, detached.
        """
        return {}
