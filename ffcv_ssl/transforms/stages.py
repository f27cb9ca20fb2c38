"""Stages of finished views: memory layout, device, and the user's torch code."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ffcv_ssl.errors import PipelineError


@dataclass(frozen=True)
class ToTensor:
    """Request torch tensors.

    The loader returns views as tensors in any case. A scalar field becomes (B, 1) instead of (B,),
    as in FFCV.

    Examples
    --------
    >>> from ffcv_ssl.fields.decoders import IntDecoder
    >>> from ffcv_ssl.transforms import ToTensor
    >>> pipeline = [IntDecoder(), ToTensor()]
    """


@dataclass(frozen=True)
class ToTorchImage:
    """Select the memory layout of views; their shape is (B, 3, H, W) in any case.

    Parameters
    ----------
    channels_last
        True (default, as in FFCV): the channels of a pixel are contiguous in memory
        (`torch.channels_last`). False: each channel is a contiguous plane, as in a pipeline without
        `ToTorchImage`.

    Examples
    --------
    >>> from ffcv_ssl.transforms import CenterCrop, ToTorchImage
    >>> pipeline = [CenterCrop(224), ToTorchImage(channels_last=True)]
    """

    channels_last: bool = True


@dataclass(frozen=True)
class ToDevice:
    """Move the batch to a device; later stages run there.

    Before all transforms of a view, a CUDA device also renders the views. The loader then
    copies the decoded images to the device once per batch.

    Parameters
    ----------
    device
        `torch.device` or its name, for instance "cuda" or "cuda:1".
    non_blocking
        True (default): copy asynchronously from pinned memory. False: wait until the copy has
        finished.

    Raises
    ------
    PipelineError
        If `device` is not a device.

    Examples
    --------
    >>> from ffcv_ssl.transforms import RandomResizedCrop, ToDevice
    >>> move_views = [RandomResizedCrop(224), ToDevice("cuda")]
    >>> render_on_gpu = [ToDevice("cuda"), RandomResizedCrop(224)]
    """

    device: torch.device | str
    non_blocking: bool = True

    def __post_init__(self) -> None:
        try:
            object.__setattr__(self, "device", torch.device(self.device))
        except RuntimeError as error:
            raise PipelineError(f"ToDevice: {self.device!r} is not a device ({error}).") from error

    def __call__(self, values: torch.Tensor) -> torch.Tensor:
        """Move one tensor.

        A copy to a GPU starts from pinned memory. From pageable memory it would wait for all work
        that is queued on the GPU.
        """
        is_async_copy = self.non_blocking and torch.device(self.device).type == "cuda"
        if is_async_copy and values.device.type == "cpu" and not values.is_pinned():
            values = values.pin_memory()
        return values.to(self.device, non_blocking=self.non_blocking)


@dataclass(frozen=True)
class Convert:
    """Convert the batch to a torch dtype.

    Parameters
    ----------
    target_dtype
        Any `torch.dtype`.

    Examples
    --------
    >>> import torch
    >>> from ffcv_ssl.transforms import Convert
    >>> Convert(torch.float32)(torch.ones(2, dtype=torch.uint8))
    tensor([1., 1.])
    """

    target_dtype: torch.dtype

    def __call__(self, values: torch.Tensor) -> torch.Tensor:
        """Convert one tensor."""
        return values.to(self.target_dtype)


@dataclass(frozen=True)
class ModuleWrapper:
    """Apply a torch module, or any function from tensor to tensor, to the whole batch.

    Parameters
    ----------
    module
        Function from (B, ...) tensors to tensors. It runs without gradients.

    Examples
    --------
    >>> import torch
    >>> from ffcv_ssl.transforms import CenterCrop, ModuleWrapper
    >>> pipeline = [CenterCrop(224), ModuleWrapper(torch.nn.AvgPool2d(2))]
    """

    module: Callable[[torch.Tensor], torch.Tensor]

    def __call__(self, values: torch.Tensor) -> torch.Tensor:
        """Apply the module."""
        return self.module(values)


class Squeeze:
    """Remove axes of length 1, except the batch axis.

    Parameters
    ----------
    *dims
        Axes to remove; negative axes count from the end. Axis 0 is not allowed. Without arguments,
        all axes of length 1 except axis 0 are removed.

    Raises
    ------
    PipelineError
        If an axis is 0 or not an integer.

    Examples
    --------
    >>> import torch
    >>> from ffcv_ssl.transforms import Squeeze
    >>> Squeeze()(torch.zeros(1, 1, 5)).shape
    torch.Size([1, 5])
    """

    def __init__(self, *dims: int) -> None:
        if 0 in dims or not all(isinstance(dim, int) for dim in dims):
            raise PipelineError(
                "Squeeze: dims must be integers other than 0; axis 0 is the batch axis."
            )
        self.dims = dims

    def __call__(self, values: torch.Tensor) -> torch.Tensor:
        """Squeeze one tensor."""
        given = {dim % values.ndim for dim in self.dims}
        dims = given if self.dims else set(range(values.ndim))
        return values.squeeze(tuple(dims - {0}))


def run_stages(stages: Sequence[Any], field: str, values: torch.Tensor) -> torch.Tensor:
    """Apply stages to a finished batch, without gradients.

    Parameters
    ----------
    stages
        Functions from tensor to tensor.
    field
        Name of the field, for error messages.
    values
        (B, ...) tensor.

    Raises
    ------
    Exception
        Any error of a stage, with a note that names field and stage (Python >= 3.11).
    """
    with torch.no_grad():
        for stage in stages:
            try:
                values = stage(values)
            except Exception as error:
                if hasattr(error, "add_note"):  # Python 3.11
                    error.add_note(f"in field {field!r}, stage {stage!r}")
                raise
    return values
