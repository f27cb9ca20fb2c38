"""Preset of SwAV: views of several sizes."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ffcv_ssl.errors import PipelineError
from ffcv_ssl.pipeline.augmentation import SIMCLR_VIEWS, Normalize, Render, Size, augment, finish
from ffcv_ssl.transforms import GaussianBlur, MultiView, RandomColorJitter, RandomResizedCrop


def multi_crop(
    sizes: Sequence[Size] = (224, 96),
    *,
    counts: Sequence[int] = (2, 6),
    scales: Sequence[tuple[float, float]] = ((0.14, 1.0), (0.05, 0.14)),
    normalize: Normalize = None,
    dtype: Any = np.float32,
    device: Any = None,
    render: Render = "cpu",
) -> list[Any]:
    """Return views of several sizes, one tensor per size, as in SwAV (Caron et al. 2020).

    Parameters
    ----------
    sizes
        Size of each kind of views: the side in pixels or (height, width), each in 1..4096.
    counts
        Number of views of each kind.
    scales
        Range (low, high) of the crops' area as a fraction of the image's area, for each kind of
        views, within [0, 1].
    normalize
        None (default): views are uint8. (mean, std) on the 0..255 scale, each one number or one per
        channel: views are normalized.
    dtype
        dtype of normalized views: float32 (default), float16 or bfloat16.
    device
        Device that receives the batch, for instance "cuda". None (default) is host memory.
    render
        "cpu" (default): the CPU renders the views. "gpu": `device` renders them; it must be a CUDA
        device.

    Returns
    -------
    list
        A pipeline; the field becomes a tuple of tensors (B, counts[i], 3, height, width).

    Raises
    ------
    PipelineError
        If the lists differ in length, or a value is out of range.

    Examples
    --------
    >>> from ffcv_ssl import views
    >>> pipelines = {"image": views.multi_crop((96, 36), counts=(2, 4))}
    """
    if not len(sizes) == len(counts) == len(scales):
        raise PipelineError(
            "multi_crop: sizes, counts and scales must have one entry per crop size, "
            f"got {len(sizes)}, {len(counts)} and {len(scales)} entries."
        )
    views = []
    for size, count, scale in zip(sizes, counts, scales, strict=True):
        crop = RandomResizedCrop(size, scale=scale)
        jitter = RandomColorJitter(SIMCLR_VIEWS.jitter, *SIMCLR_VIEWS.strengths)
        blur = GaussianBlur(0.5)
        view = augment(crop, SIMCLR_VIEWS.flip, jitter, SIMCLR_VIEWS.gray, blur, 0.0)
        views += [view] * count
    return finish([MultiView(views)], normalize, dtype, device, render)
