"""Base class of all methods, input normalization, and unit vectors with a bounded gradient."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from ffcv_ssl.ssl.methods.gather import gather

Logs = dict[str, Tensor]  # scalars to log, detached, by name

SHORTEST = 1e-6  # shortest embedding that has a direction; the epsilon of BYOL's released code


def unit(embeddings: Tensor) -> Tensor:
    """Scale embeddings to unit length; embeddings up to `SHORTEST` long become 0.

    The zero embeddings get no gradient. They occur: a narrow head whose last layer has no bias
    returns exact zeros when none of its ReLUs is active. The gradient of a plain normalization is
    1 / eps there, which makes the training diverge.

    Parameters
    ----------
    embeddings
        (..., D) floating point.

    Returns
    -------
    Like `embeddings`, with length 1 or 0 along the last axis.
    """
    lengths = torch.linalg.vector_norm(embeddings.detach(), dim=-1, keepdim=True)
    return F.normalize(embeddings * (lengths > SHORTEST), dim=-1)


def at_least_float32(values: Tensor) -> Tensor:
    """Convert half precision to float32; return float32 and float64 unchanged."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


class Normalize(nn.Module):
    """Subtract a mean and divide by a standard deviation per channel.

    Views are transferred as uint8, a quarter of the bytes of float32, and are normalized on the
    training device. The constants are buffers and therefore saved with the model, so that
    evaluations use the same ones. Floating-point images count as normalized already: only their
    memory order changes.

    Parameters
    ----------
    mean
        Mean of each channel, on the 0 to 255 scale.
    std
        Standard deviation of each channel, on the 0 to 255 scale, > 0.

    Examples
    --------
    >>> import torch
    >>> normalize = Normalize(mean=[127.5] * 3, std=[127.5] * 3)
    >>> images = torch.full((1, 3, 2, 2), 255, dtype=torch.uint8)
    >>> normalize(images)[0, 0]
    tensor([[1., 1.],
            [1., 1.]])
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(1, -1, 1, 1))
        self.register_buffer("scale", 1 / torch.tensor(std, dtype=torch.float32).view(1, -1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Normalize (N, 3, H, W) images.

        Parameters
        ----------
        images
            (N, 3, H, W) uint8, or floating point if they are normalized already.

        Returns
        -------
        Like `images`, float32 for uint8 images, in channels-last memory order, in which
        convolutions are faster on CPUs and GPUs.
        """
        if images.dtype == torch.uint8:
            floats = images.contiguous(memory_format=torch.channels_last).float()
            return (floats - self.mean) * self.scale
        return images.contiguous(memory_format=torch.channels_last)


@contextmanager
def running_statistics_kept(module: nn.Module) -> Iterator[None]:
    """Make batch normalization update copies of its running statistics and batch counts.

    The context leaves the statistics themselves unchanged. Turning `track_running_stats` off would
    have the same effect, but changes the tensors saved for the backward pass, which a recomputation
    must not do.

    Parameters
    ----------
    module
        Module whose batch-normalization layers keep their statistics.
    """
    normalizations = [part for part in module.modules() if isinstance(part, _BatchNorm)]
    originals = [
        (part, name, buffer)
        for part in normalizations
        for name, buffer in part.named_buffers(recurse=False)
    ]
    for part, name, buffer in originals:
        setattr(part, name, buffer.clone())
    try:
        yield
    finally:
        for part, name, buffer in originals:
            setattr(part, name, buffer)


class Method(nn.Module):
    """Backbone, projector and a loss on the embeddings of V views; base class of all methods.

    A subclass implements `loss`, or `forward` if the loss needs more than the embeddings. Its
    module also holds the loss as a plain function of (B, V, D) embeddings. Parameters that no
    optimizer trains have `requires_grad` False.

    Training can split a batch into several forward passes (`images_per_forward`,
    `views_per_forward`) and recompute activations (`recompute`). The loss still sees all embeddings
    at once, so that its gradient is that of the whole batch. Gradient accumulation, in contrast,
    would give a contrastive loss fewer images to compare.

    Parameters
    ----------
    backbone
        Module that maps (N, 3, H, W) images to (N, num_features) features.
    projector
        Module that maps features to embeddings (N, D).
    normalize
        Module that maps uint8 images to the input of the backbone.

    Attributes
    ----------
    images_per_forward
        Maximum number of images per forward pass, in each process. A pass has its own
        batch-normalization statistics. None or 0: all images. Default None.
    views_per_forward
        Maximum number of views of each image per forward pass. None or 0: all views. Default None.
    recompute
        Whether to discard the activations of each pass and recompute them in the backward pass.
        Recomputation needs less memory and a third more time; the gradients are the same. Default
        False.
    uses_labels
        Whether `forward` also takes the (B,) int64 labels of the images.
    """

    uses_labels: ClassVar[bool] = False
    images_per_forward: int | None = None
    views_per_forward: int | None = None
    recompute = False

    def __init__(self, backbone: nn.Module, projector: nn.Module, normalize: Normalize) -> None:
        super().__init__()
        self.normalize = normalize
        self.backbone = backbone
        self.projector = projector

    def features(self, images: Tensor) -> Tensor:
        """Map (N, 3, H, W) images to the backbone's (N, num_features) features."""
        features: Tensor = self.backbone(self.normalize(images))
        return features

    def embed(self, views: Tensor) -> Tensor:
        """Map (B, V, 3, H, W) views to (B, V, D) embeddings."""
        return self.encode(views, lambda images: self.projector(self.features(images)))

    def encode(self, views: Tensor, encoder: Callable[[Tensor], Tensor]) -> Tensor:
        """Apply an encoder to all views, in the forward passes that `passes` defines.

        Parameters
        ----------
        views
            (B, V, 3, H, W) uint8, or normalized floating point.
        encoder
            Function that maps (N, 3, H, W) images to (N, D).

        Returns
        -------
        (B, V, D), with the dtype of the encoder's output.
        """
        rows = [[self._encode_at_once(part, encoder) for part in row] for row in self.passes(views)]
        return torch.cat([torch.cat(row, dim=1) for row in rows])

    def passes(self, values: Tensor) -> list[Sequence[Tensor]]:
        """Split a batch into the parts that share a forward pass.

        Parameters
        ----------
        values
            (B, V, ...): views, or one value per view.

        Returns
        -------
        One entry per group of images, each a sequence with one tensor (b, v, ...) per group of
        views. Groups of images are as even as possible, because batch normalization needs more than
        one image.
        """
        num_rows = -(-len(values) // (self.images_per_forward or len(values)))
        rows = values.tensor_split(num_rows)
        views_per_pass = self.views_per_forward or values.shape[1]
        return [torch.split(row, views_per_pass, dim=1) for row in rows]

    def _encode_at_once(self, views: Tensor, encoder: Callable[[Tensor], Tensor]) -> Tensor:
        """Map (b, v, 3, H, W) views to (b, v, D) in one forward pass."""
        images = views.flatten(0, 1)
        encoded: Tensor
        if self.recompute and torch.is_grad_enabled():
            encoded = checkpoint(
                encoder,
                images,
                use_reentrant=False,
                context_fn=lambda: (nullcontext(), running_statistics_kept(self)),
            )
        else:
            encoded = encoder(images)
        return torch.unflatten(encoded, 0, views.shape[:2])

    def loss(self, embeddings: Tensor) -> tuple[Tensor, Logs]:
        """Return the loss of a batch of embeddings.

        Parameters
        ----------
        embeddings
            (B, V, D) float32 or float64, of all processes together.

        Returns
        -------
        The scalar loss, to be minimized, and detached scalars to log.

        Raises
        ------
        NotImplementedError
            If the subclass defines no loss.
        """
        raise NotImplementedError(f"{type(self).__name__} does not implement loss().")

    def forward(self, views: Tensor) -> tuple[Tensor, Logs]:
        """Return the loss of a batch of views, of all processes together.

        Parameters
        ----------
        views
            (B, V, 3, H, W) uint8, or normalized floating point.

        Returns
        -------
        The scalar loss and detached scalars to log, at least float32. The loss is computed outside
        of autocast.
        """
        embeddings = self.embed(views)
        with torch.autocast(views.device.type, enabled=False):
            return self.loss(gather(at_least_float32(embeddings)))

    def after_step(self, share_done: float) -> Logs:
        """Update the method after an optimizer step; the base class does nothing.

        Parameters
        ----------
        share_done
            Fraction of training done before the step, 0 to 1. The learning rate of the step was
            computed from the same value.

        Returns
        -------
        Detached scalars to log with the step.
        """
        return {}
