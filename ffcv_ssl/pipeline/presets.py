"""View pipelines of the published methods. Each returns a list, ready for `Loader(pipelines={"image": …})`.

All presets take these arguments:

normalize
    None: the views are uint8. (mean, std) on the 0..255 scale: they are normalized.
dtype
    Of normalized views: float32, float16 or bfloat16.
device
    None: the batch stays in host memory. A device such as "cuda": the batch is moved there.
render
    "cpu": the CPU renders the views, and the finished bytes are moved. "gpu": `device` renders them.

Resizing, jitter, grayscale and solarization match torchvision's PIL backend to one gray level per
operation, hue matches exact HSV, and the blur matches torchvision's `GaussianBlur` on float pixels.
"""

from collections.abc import Sequence
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
from ffcv_ssl.transforms import (
    CenterCrop,
    GaussianBlur,
    MultiView,
    RandomColorJitter,
    RandomPatchCrop,
    RandomResizedCrop,
)


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
    """Return `n` random crops, augmented by the chain that SimCLR and its relatives share.

    Parameters
    ----------
    size
        Side of a view in pixels, or (height, width).
    n
        Views of each image.
    scale, flip, jitter, strengths, gray, blur, solarize
        See `Augmentation`.
    normalize, dtype, device, render
        See the module.

    Raises
    ------
    PipelineError
        If a value is out of range, or `blur` or `solarize` does not fit the number of views.

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
        augment(crop, flip, color, gray, GaussianBlur(p), q)
        for p, q in zip(blurs, solarizes, strict=True)
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
    """Return views as in SimCLR (Chen et al. 2020, appendix A).

    `strength` scales the jitter's brightness, contrast, saturation (.8) and hue (.2); the rest is as in
    `augmented`.

    Examples
    --------
    >>> from ffcv_ssl import views
    >>> pipelines = {"image": views.simclr(32, strength=0.5)}
    """
    brightness, contrast, saturation, hue = (strength * value for value in SIMCLR_VIEWS.strengths)
    return augmented(
        size, n=n, scale=scale, flip=flip, jitter=jitter, strengths=(brightness, contrast, saturation, hue), gray=gray, blur=blur,
        solarize=solarize, normalize=normalize, dtype=dtype, device=device, render=render,
    )  # fmt: skip


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
    """Return two views as in BYOL (Grill et al. 2020, table 6): the first always blurred, the second sometimes solarized.

    Barlow Twins (Zbontar et al. 2021) and VICReg (Bardes et al. 2022) use the same views; they are
    available as `barlow_twins` and `vicreg` too. Other numbers of views need `blur` and `solarize`; the rest is as in `augmented`.

    Examples
    --------
    >>> from ffcv_ssl import views
    >>> pipelines = {"image": views.byol(32, n=4, blur=0.5, solarize=0.1)}
    """
    if n != 2 and (blur is BYOL_VIEWS.blur or solarize is BYOL_VIEWS.solarize):
        raise PipelineError(
            f"byol: its two views differ in their probabilities of blur, {BYOL_VIEWS.blur}, and solarization, {BYOL_VIEWS.solarize}; "
            f"for n={n} give both."
        )
    return augmented(
        size, n=n, scale=scale, flip=flip, jitter=jitter, strengths=strengths, gray=gray, blur=blur, solarize=solarize,
        normalize=normalize, dtype=dtype, device=device, render=render,
    )  # fmt: skip


barlow_twins = vicreg = byol


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
    """Return views as in EMP-SSL's released code: patches of `patch`² pixels, resized to `size`².

    Deviation: the blur is a true Gaussian of 13 taps; the released code calls Pillow's approximation
    by box filters.

    Parameters
    ----------
    size
        Side of a view in pixels, or (height, width); by default 32. Give `n` with it.
    n
        Views of each image; by default 20.
    patch
        Side of a patch in pixels of the image. Below 1 its share of the image's area instead, with an
        aspect ratio of 3/4 to 4/3 and resized by a bicubic filter: the released code's patches of
        ImageNet (.25).
    normalize, dtype, device, render
        See the module.

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
            f"emp_ssl({size!r}): the first argument is the side of a view in pixels, as in all presets; give the number of views by name, "
            "for instance emp_ssl(32, n=20)."
        )
    size, n = 32 if size is None else size, 20 if n is None else n
    crop: Any
    if isinstance(patch, float) and patch < 1:
        crop = RandomResizedCrop(size, scale=(patch, patch), interpolation="bicubic")
    else:
        crop = RandomPatchCrop(size, patch=patch)  # type: ignore[arg-type]  # which refuses what is no size
    jitter = RandomColorJitter(0.8, 0.4, 0.4, 0.4, 0.2)
    view = augment(crop, 0.5, jitter, 0.2, GaussianBlur(0.1, kernel_size=13), 0.1)
    return finish([MultiView(view, n=n)], normalize, dtype, device, render)


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
    """Return `counts[i]` views of `sizes[i]` each, one tensor per size, as in SwAV (Caron et al. 2020).

    Parameters
    ----------
    sizes
        Side of the views of each kind in pixels, or (height, width).
    counts
        Number of views of each kind.
    scales
        Least and largest share of the image's area that a crop of each kind covers.
    normalize, dtype, device, render
        See the module.

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
        raise PipelineError("multi_crop: sizes, counts and scales have one entry per crop size.")
    views = []
    for size, count, scale in zip(sizes, counts, scales, strict=True):
        jitter = RandomColorJitter(SIMCLR_VIEWS.jitter, *SIMCLR_VIEWS.strengths)
        view = augment(
            RandomResizedCrop(size, scale=scale),
            SIMCLR_VIEWS.flip,
            jitter,
            SIMCLR_VIEWS.gray,
            GaussianBlur(0.5),
            0.0,
        )
        views += [view] * count
    return finish([MultiView(views)], normalize, dtype, device, render)


def plain(
    size: Size = 224,
    *,
    ratio: float = 224 / 256,
    normalize: Normalize = None,
    dtype: Any = np.float32,
    device: Any = None,
    render: Render = "cpu",
) -> list[Any]:
    """Return one unaugmented view without a view axis: the central square of `ratio` times the shorter side.

    Parameters
    ----------
    size
        Side of the view in pixels, or (height, width).
    ratio
        Share of the image's shorter side, in (0, 1].
    normalize, dtype, device, render
        See the module.

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
