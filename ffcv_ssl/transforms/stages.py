"""What happens to finished views: normalization, layout, device, and whatever torch code a user brings."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ffcv_ssl.errors import PipelineError

TORCH_DTYPES = {
    "uint8": torch.uint8,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "float32": torch.float32,
}


def torch_dtype(dtype: Any) -> torch.dtype:
    """Return the torch dtype of a name, a NumPy dtype or a torch dtype that views may have."""
    name = (
        str(dtype).removeprefix("torch.")
        if isinstance(dtype, (str, torch.dtype))
        else np.dtype(dtype).name
    )
    if name not in TORCH_DTYPES:
        raise PipelineError(f"Views are one of {', '.join(TORCH_DTYPES)}, got {dtype!r}.")
    return TORCH_DTYPES[name]


@dataclass(frozen=True)
class NormalizeImage:
    """Map every uint8 value to (value - mean) / std, computed in float64 and rounded once to `type`.

    Parameters
    ----------
    mean, std
        One number per channel (or one for all), on the 0..255 scale.
    type
        float32, float16 or bfloat16: a NumPy dtype, a torch dtype or a name.
    """

    mean: Sequence[float]
    std: Sequence[float]
    type: Any = np.float32

    def __post_init__(self):
        mean, std = (np.asarray(values, np.float64) for values in (self.mean, self.std))
        if any(values.shape not in ((), (1,), (3,)) for values in (mean, std)):
            raise PipelineError(
                f"NormalizeImage: mean and std are one number or one per RGB channel, got {self.mean!r} and {self.std!r}."
            )
        mean, std = mean * np.ones(3), std * np.ones(3)
        if not (np.isfinite(mean).all() and np.isfinite(std).all() and (std > 0).all()):
            raise PipelineError(
                f"NormalizeImage: std must be positive and mean finite, got mean {self.mean!r}, std {self.std!r}."
            )
        if mean.max() <= 1 and std.max() <= 1 and not (mean == 0).all():
            raise PipelineError(
                "NormalizeImage: mean and std are on the 0..255 scale; multiply those of the 0..1 scale by 255."
            )
        object.__setattr__(self, "mean", tuple(mean.tolist()))
        object.__setattr__(self, "std", tuple(std.tolist()))
        object.__setattr__(self, "type", torch_dtype(self.type))
        if self.type == torch.uint8:
            raise PipelineError(
                "NormalizeImage: type is float32, float16 or bfloat16; uint8 cannot hold normalized values."
            )

    def table(self) -> torch.Tensor:
        """Return the (3, 256) lookup table."""
        values = torch.arange(256, dtype=torch.float64, device="cpu")[None]
        mean, std = (
            torch.tensor(numbers, dtype=torch.float64, device="cpu")[:, None]
            for numbers in (self.mean, self.std)
        )
        return ((values - mean) / std).to(self.type)

    def __call__(self, views: torch.Tensor) -> torch.Tensor:
        """Normalize uint8 views (..., 3, H, W) on the device where they are."""
        if views.dtype != torch.uint8:
            raise PipelineError(
                f"NormalizeImage: expects uint8 views, got {views.dtype}; normalize once, before other stages."
            )
        table = self.table().to(views.device)
        out = torch.empty_like(views, dtype=self.type)
        for channel in range(3):
            out[..., channel, :, :] = table[channel][views[..., channel, :, :].int()]
        return out


@dataclass(frozen=True)
class ToTensor:
    """Ask for torch tensors. Views always are; a scalar field becomes (B, 1), as in FFCV."""


@dataclass(frozen=True)
class ToTorchImage:
    """Ask for a memory layout; the shape is (B, 3, H, W) in any case.

    Parameters
    ----------
    channels_last
        True (FFCV's default): the channels of a pixel lie side by side. False: planes. Without `ToTorchImage`: planes.
    """

    channels_last: bool = True


@dataclass(frozen=True)
class ToDevice:
    """Move the batch to `device`, a `torch.device` or its name; what follows runs there.

    Before a view's first transform it makes a CUDA device render the views, from decoded images that travel in one copy per batch.
    """

    device: torch.device | str
    non_blocking: bool = True

    def __post_init__(self):
        try:
            object.__setattr__(self, "device", torch.device(self.device))
        except RuntimeError as error:
            raise PipelineError(f"ToDevice: {self.device!r} is not a device ({error}).") from error

    def __call__(self, values: torch.Tensor) -> torch.Tensor:
        """Move one tensor; a copy to a GPU begins in pinned memory, or it would wait for all that the GPU has still to do."""
        if (
            self.non_blocking
            and torch.device(self.device).type == "cuda"
            and values.device.type == "cpu"
            and not values.is_pinned()
        ):
            values = values.pin_memory()
        return values.to(self.device, non_blocking=self.non_blocking)


@dataclass(frozen=True)
class Convert:
    """Convert the batch to a torch dtype."""

    target_dtype: torch.dtype

    def __call__(self, values: torch.Tensor) -> torch.Tensor:
        """Convert one tensor."""
        return values.to(self.target_dtype)


@dataclass(frozen=True)
class ModuleWrapper:
    """Run a torch module, or any callable from tensor to tensor, on the whole batch."""

    module: Callable[[torch.Tensor], torch.Tensor]

    def __call__(self, values: torch.Tensor) -> torch.Tensor:
        """Run the module."""
        return self.module(values)


class Squeeze:
    """Drop axes of length 1; the batch axis stays in any case.

    Parameters
    ----------
    dims
        Axes to drop, none of them 0; without any, all of length 1 but the batch axis.
    """

    def __init__(self, *dims: int):
        if 0 in dims or not all(isinstance(dim, int) for dim in dims):
            raise PipelineError(
                "Squeeze: axes are integers, and axis 0 counts the samples and stays."
            )
        self.dims = dims

    def __call__(self, values: torch.Tensor) -> torch.Tensor:
        """Squeeze one tensor."""
        dims = {dim % values.ndim for dim in self.dims} if self.dims else set(range(values.ndim))
        return values.squeeze(tuple(dims - {0}))


def run_stages(stages: Sequence[Any], field: str, values: torch.Tensor) -> torch.Tensor:
    """Pass a finished batch through its stages, without gradients; an error is given a note that names field and stage."""
    with torch.no_grad():
        for stage in stages:
            try:
                values = stage(values)
            except Exception as error:
                if hasattr(error, "add_note"):  # Python 3.11
                    error.add_note(f"in field {field!r}, stage {stage!r}")
                raise
    return values
