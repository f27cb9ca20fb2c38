"""The preset of EMP-SSL: many patches of each image."""

from typing import Any

import numpy as np

from ffcv_ssl.errors import PipelineError
from ffcv_ssl.pipeline.augmentation import Normalize, Render, Size, augment, finish
from ffcv_ssl.transforms import (
    GaussianBlur,
    MultiView,
    RandomColorJitter,
    RandomPatchCrop,
    RandomResizedCrop,
)

EMP_SSL_SIZE, EMP_SSL_VIEWS = 32, 20  # defaults of the released code for CIFAR


def emp_ssl(
    size: Size | None = None,
    *,
    n: int | None = None,
    patch: Size | float = 16,
    normalize: Normalize = None,
    dtype: Any = np.float32,
    device: Any = None,
    render: Render = "cpu",
) -> list[Any]:
    """Return the views of EMP-SSL's released code: augmented patches, resized to `size`.

    One deviation: the blur is a true Gaussian with 13 taps. The released code uses Pillow's blur,
    which approximates a Gaussian with box filters.

    Parameters
    ----------
    size
        Side of the square views in pixels, or (height, width), each in 1..4096. The default is 32.
        If given, `n` is required.
    n
        Number of views per image, >= 1. The default is 20.
    patch
        Side of the square patches in pixels of the stored image, or (height, width), each >= 1. A
        float below 1 is the patch's fraction of the image's area instead; such patches have an
        aspect ratio of 3/4 to 4/3 and are resized with a bicubic filter, as the released code does
        for ImageNet (with 0.25).
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
        A pipeline; the field becomes (B, n, 3, height, width).

    Raises
    ------
    PipelineError
        If a value is out of range, or `size` is given without `n`.

    Examples
    --------
    >>> from ffcv_ssl import views
    >>> pipelines = {"image": views.emp_ssl(32, n=20)}
    """
    if size is not None and n is None:
        raise PipelineError(
            f"emp_ssl({size!r}): the first argument is the side of a view in pixels, as in all "
            "presets; pass the number of views by name, for instance emp_ssl(32, n=20)."
        )
    size = EMP_SSL_SIZE if size is None else size
    n = EMP_SSL_VIEWS if n is None else n
    crop: Any
    if isinstance(patch, float) and patch < 1:
        crop = RandomResizedCrop(size, scale=(patch, patch), interpolation="bicubic")
    else:
        crop = RandomPatchCrop(size, patch=patch)  # type: ignore[arg-type]  # it rejects floats
    jitter = RandomColorJitter(0.8, 0.4, 0.4, 0.4, 0.2)
    view = augment(crop, 0.5, jitter, 0.2, GaussianBlur(0.1, kernel_size=13), 0.1)
    return finish([MultiView(view, n=n)], normalize, dtype, device, render)
