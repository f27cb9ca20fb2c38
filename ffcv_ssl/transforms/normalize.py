"""Normalization of uint8 views."""

from collections.abc import Sequence
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
    """Convert the name of a dtype, a NumPy dtype or a torch dtype of views to a torch dtype."""
    is_named = isinstance(dtype, (str, torch.dtype))
    name = str(dtype).removeprefix("torch.") if is_named else np.dtype(dtype).name
    if name not in TORCH_DTYPES:
        raise PipelineError(
            f"the dtype of views must be one of {', '.join(TORCH_DTYPES)}, got {dtype!r}."
        )
    return TORCH_DTYPES[name]


@dataclass(frozen=True)
class NormalizeImage:
    """Map every uint8 value to (value - mean) / std.

    Values are computed in float64 and rounded once to `type`.

    Parameters
    ----------
    mean
        One number, or one per RGB channel, on the 0..255 scale.
    std
        One positive number, or one per RGB channel, on the 0..255 scale.
    type
        float32 (default), float16 or bfloat16, as a NumPy dtype, a torch dtype or a name.

    Raises
    ------
    PipelineError
        If `mean` or `std` has another shape, is not finite, or is on the 0..1 scale; if `std` is
        not positive; if `type` is not one of these dtypes.

    Examples
    --------
    >>> import torch
    >>> from ffcv_ssl.transforms import NormalizeImage
    >>> normalize = NormalizeImage(mean=(124, 116, 104), std=(58, 57, 57), type=torch.float16)
    >>> normalize(torch.full((1, 3, 2, 2), 124, dtype=torch.uint8))[0, 0]
    tensor([[0., 0.],
            [0., 0.]], dtype=torch.float16)
    """

    mean: float | Sequence[float]
    std: float | Sequence[float]
    type: Any = np.float32

    def __post_init__(self) -> None:
        mean, std = (np.asarray(values, np.float64) for values in (self.mean, self.std))
        if any(values.shape not in ((), (1,), (3,)) for values in (mean, std)):
            raise PipelineError(
                "NormalizeImage: mean and std must be one number or one per RGB channel, "
                f"got {self.mean!r} and {self.std!r}."
            )
        mean, std = mean * np.ones(3), std * np.ones(3)
        if not (np.isfinite(mean).all() and np.isfinite(std).all() and (std > 0).all()):
            raise PipelineError(
                "NormalizeImage: mean must be finite and std must be finite and positive, "
                f"got mean {self.mean!r}, std {self.std!r}."
            )
        if mean.max() <= 1 and std.max() <= 1 and not (mean == 0).all():
            raise PipelineError(
                "NormalizeImage: mean and std must be on the 0..255 scale; multiply values on the "
                "0..1 scale by 255."
            )
        object.__setattr__(self, "mean", tuple(mean.tolist()))
        object.__setattr__(self, "std", tuple(std.tolist()))
        object.__setattr__(self, "type", torch_dtype(self.type))
        if self.type == torch.uint8:
            raise PipelineError(
                "NormalizeImage: type must be float32, float16 or bfloat16; uint8 cannot represent "
                "normalized values."
            )

    def table(self) -> torch.Tensor:
        """Return the lookup table, (3, 256) of dtype `type`."""
        values = torch.arange(256, dtype=torch.float64, device="cpu")[None]
        mean, std = (
            torch.tensor(numbers, dtype=torch.float64, device="cpu")[:, None]
            for numbers in (self.mean, self.std)
        )
        return ((values - mean) / std).to(self.type)

    def __call__(self, views: torch.Tensor) -> torch.Tensor:
        """Normalize views on their device.

        Parameters
        ----------
        views
            (..., 3, H, W) uint8.

        Returns
        -------
        torch.Tensor
            Like `views`, of dtype `type`.

        Raises
        ------
        PipelineError
            If `views` is not uint8.
        """
        if views.dtype != torch.uint8:
            raise PipelineError(
                f"NormalizeImage: views must be uint8, got {views.dtype}; normalize once, before "
                "other stages."
            )
        table = self.table().to(views.device)
        out = torch.empty_like(views, dtype=self.type)
        for channel in range(3):
            out[..., channel, :, :] = table[channel][views[..., channel, :, :].int()]
        return out
