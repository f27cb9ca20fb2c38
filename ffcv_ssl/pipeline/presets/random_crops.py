"""Presets whose views are random resized crops: SimCLR, BYOL and related methods."""

from typing import Any

import numpy as np

from ffcv_ssl.errors import PipelineError
from ffcv_ssl.pipeline.augmentation import (
    BYOL_VIEWS,
    SIMCLR_VIEWS,
    Normalize,
    PerView,
    Render,
    Size,
    augment,
    finish,
    per_view,
)
from ffcv_ssl.transforms import GaussianBlur, MultiView, RandomColorJitter, RandomResizedCrop


def augmented(
    size: Size = 224,
    *,
    n: int = 2,
    scale: tuple[float, float] = SIMCLR_VIEWS.scale,
    flip: float = SIMCLR_VIEWS.flip,
    jitter: float = SIMCLR_VIEWS.jitter,
    strengths: tuple[float, float, float, float] = SIMCLR_VIEWS.strengths,
    gray: float = SIMCLR_VIEWS.gray,
    blur: PerView = SIMCLR_VIEWS.blur,
    solarize: PerView = SIMCLR_VIEWS.solarize,
    normalize: Normalize = None,
    dtype: Any = np.float32,
    device: Any = None,
    render: Render = "cpu",
) -> list[Any]:
    """Return `n` random crops with the augmentations that SimCLR and related methods share.

    Parameters
    ----------
    size
        Side of the square views in pixels, or (height, width), each in 1..4096.
    n
        Number of views per image, >= 1.
    scale
        Range (low, high) of a crop's area as a fraction of the image's area, within [0, 1].
    flip
        Probability of a horizontal flip, in [0, 1].
    jitter
        Probability of the color jitter, in [0, 1].
    strengths
        Strengths of brightness, contrast, saturation and hue (at most 0.5); see
        `RandomColorJitter`.
    gray
        Probability of grayscale, in [0, 1].
    blur
        Probability of the Gaussian blur, in [0, 1]: one for all views, or a list with one per view.
    solarize
        Probability of solarization, in [0, 1]: one for all views, or a list with one per view.
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
        If a value is out of range, or `blur` or `solarize` does not have one probability per view.

    Examples
    --------
    >>> from ffcv_ssl import views
    >>> pipelines = {"image": views.augmented(32, n=4, blur=0)}
    """
    blurs, solarizes = (
        per_view(name, p, n) for name, p in (("blur", blur), ("solarize", solarize))
    )
    crop, color = RandomResizedCrop(size, scale=scale), RandomColorJitter(jitter, *strengths)
    views = [
        augment(crop, flip, color, gray, GaussianBlur(blur_prob), solarize_prob)
        for blur_prob, solarize_prob in zip(blurs, solarizes, strict=True)
    ]
    return finish([MultiView(views)], normalize, dtype, device, render)


def simclr(
    size: Size = 224,
    *,
    n: int = 2,
    strength: float = 1.0,
    scale: tuple[float, float] = SIMCLR_VIEWS.scale,
    flip: float = SIMCLR_VIEWS.flip,
    jitter: float = SIMCLR_VIEWS.jitter,
    gray: float = SIMCLR_VIEWS.gray,
    blur: PerView = SIMCLR_VIEWS.blur,
    solarize: PerView = SIMCLR_VIEWS.solarize,
    normalize: Normalize = None,
    dtype: Any = np.float32,
    device: Any = None,
    render: Render = "cpu",
) -> list[Any]:
    """Return the views of SimCLR (Chen et al. 2020, appendix A).

    Parameters
    ----------
    size
        Side of the square views in pixels, or (height, width), each in 1..4096.
    n
        Number of views per image, >= 1.
    strength
        Factor of the jitter's strengths (0.8 for brightness, contrast and saturation, 0.2 for hue),
        in [0, 2.5].
    scale
        Range (low, high) of a crop's area as a fraction of the image's area, within [0, 1].
    flip
        Probability of a horizontal flip, in [0, 1].
    jitter
        Probability of the color jitter, in [0, 1].
    gray
        Probability of grayscale, in [0, 1].
    blur
        Probability of the Gaussian blur, in [0, 1]: one for all views, or a list with one per view.
    solarize
        Probability of solarization, in [0, 1]: one for all views, or a list with one per view.
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
        If a value is out of range, or `blur` or `solarize` does not have one probability per view.

    Examples
    --------
    >>> from ffcv_ssl import views
    >>> pipelines = {"image": views.simclr(32, strength=0.5)}
    """
    brightness, contrast, saturation, hue = (strength * value for value in SIMCLR_VIEWS.strengths)
    return augmented(
        size,
        n=n,
        scale=scale,
        flip=flip,
        jitter=jitter,
        strengths=(brightness, contrast, saturation, hue),
        gray=gray,
        blur=blur,
        solarize=solarize,
        normalize=normalize,
        dtype=dtype,
        device=device,
        render=render,
    )


def byol(
    size: Size = 224,
    *,
    n: int = 2,
    scale: tuple[float, float] = BYOL_VIEWS.scale,
    flip: float = BYOL_VIEWS.flip,
    jitter: float = BYOL_VIEWS.jitter,
    strengths: tuple[float, float, float, float] = BYOL_VIEWS.strengths,
    gray: float = BYOL_VIEWS.gray,
    blur: PerView = BYOL_VIEWS.blur,
    solarize: PerView = BYOL_VIEWS.solarize,
    normalize: Normalize = None,
    dtype: Any = np.float32,
    device: Any = None,
    render: Render = "cpu",
) -> list[Any]:
    """Return the two views of BYOL (Grill et al. 2020, table 6).

    The first view is always blurred and never solarized. The second view is blurred with
    probability 0.1 and solarized with probability 0.2. Barlow Twins (Zbontar et al. 2021) and
    VICReg (Bardes et al. 2022) use the same views; `barlow_twins` and `vicreg` are other names of
    this preset.

    Parameters
    ----------
    size
        Side of the square views in pixels, or (height, width), each in 1..4096.
    n
        Number of views per image, >= 1. Other numbers than 2 require `blur` and `solarize`.
    scale
        Range (low, high) of a crop's area as a fraction of the image's area, within [0, 1].
    flip
        Probability of a horizontal flip, in [0, 1].
    jitter
        Probability of the color jitter, in [0, 1].
    strengths
        Strengths of brightness, contrast, saturation and hue (at most 0.5); see
        `RandomColorJitter`.
    gray
        Probability of grayscale, in [0, 1].
    blur
        Probability of the Gaussian blur, in [0, 1]: one for all views, or a list with one per view.
    solarize
        Probability of solarization, in [0, 1]: one for all views, or a list with one per view.
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
        If a value is out of range, or `blur` or `solarize` does not have one probability per view.

    Examples
    --------
    >>> from ffcv_ssl import views
    >>> pipelines = {"image": views.byol(32, n=4, blur=0.5, solarize=0.1)}
    """
    if n != 2 and (blur is BYOL_VIEWS.blur or solarize is BYOL_VIEWS.solarize):
        raise PipelineError(
            f"byol: its two views differ in the probabilities of blur, {BYOL_VIEWS.blur}, and "
            f"solarization, {BYOL_VIEWS.solarize}; for n={n} pass both blur and solarize."
        )
    return augmented(
        size,
        n=n,
        scale=scale,
        flip=flip,
        jitter=jitter,
        strengths=strengths,
        gray=gray,
        blur=blur,
        solarize=solarize,
        normalize=normalize,
        dtype=dtype,
        device=device,
        render=render,
    )


barlow_twins = vicreg = byol
