"""The preset for evaluation: the central crop, without augmentation."""

from typing import Any

import numpy as np

from ffcv_ssl.pipeline.augmentation import Normalize, Render, Size, finish
from ffcv_ssl.transforms import CenterCrop


def plain(
    size: Size = 224,
    *,
    ratio: float = 224 / 256,
    normalize: Normalize = None,
    dtype: Any = np.float32,
    device: Any = None,
    render: Render = "cpu",
) -> list[Any]:
    """Return one view without augmentation: the central square of the image, without a view axis.

    Parameters
    ----------
    size
        Side of the square view in pixels, or (height, width), each in 1..4096.
    ratio
        Side of the central square, as a fraction of the image's shorter side, in (0, 1].
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
        A pipeline; the field becomes (B, 3, height, width).

    Raises
    ------
    PipelineError
        If a value is out of range.

    Examples
    --------
    >>> from ffcv_ssl import views
    >>> pipelines = {"image": views.plain(224)}
    """
    return finish([CenterCrop(size, ratio=ratio)], normalize, dtype, device, render)
