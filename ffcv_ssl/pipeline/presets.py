"""View pipelines of the published methods. Each returns a list, ready for `Loader(pipelines={"image": …})`.

All views are uint8 unless `normalize=(mean, std)` is given, on the 0..255 scale. `device` appends `ToDevice`; normalization runs there.
Resizing, jitter, grey and solarization match torchvision's PIL backend to one grey level per operation, hue matches exact HSV,
and the blur matches torchvision's `GaussianBlur` on float pixels.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ffcv_ssl.errors import PipelineError
from ffcv_ssl.transforms import (
    CenterCrop,
    GaussianBlur,
    MultiView,
    NormalizeImage,
    RandomColorJitter,
    RandomGrayscale,
    RandomHorizontalFlip,
    RandomPatchCrop,
    RandomResizedCrop,
    RandomSolarization,
    ToDevice,
)

Size = int | tuple[int, int]
Normalize = tuple[Sequence[float], Sequence[float]] | None
SIMCLR_SCALE = (0.08, 1.0)


def _finish(views: list[Any], normalize: Normalize, dtype: Any, device: Any) -> list[Any]:
    """Append the move to the device, then the normalization, so that bytes travel and not floats."""
    if device is not None:
        views = [*views, ToDevice(device)]
    return views if normalize is None else [*views, NormalizeImage(*normalize, dtype)]


def _augment(crop: Any, flip: float, jitter: RandomColorJitter, gray: float, blur: GaussianBlur, solarize: float) -> list[Any]:
    """Return the chain that all methods share; steps that never happen are left out."""
    steps = [crop]
    steps += [RandomHorizontalFlip(flip)] if flip else []
    steps += [jitter] if jitter.jitter_prob else []
    steps += [RandomGrayscale(gray)] if gray else []
    steps += [blur] if blur.blur_prob else []
    return steps + ([RandomSolarization(solarize)] if solarize else [])


def augmented(
    size: Size = 224,
    *,
    n: int = 2,
    scale: tuple[float, float] = SIMCLR_SCALE,
    flip: float = 0.5,
    jitter: float = 0.8,
    strengths: tuple[float, float, float, float] = (0.8, 0.8, 0.8, 0.2),
    gray: float = 0.2,
    blur: float | Sequence[float] = 0.5,
    solarize: float | Sequence[float] = 0.0,
    normalize: Normalize = None,
    dtype: Any = np.float32,
    device: Any = None,
) -> list[Any]:
    """Return `n` random crops, augmented by the chain that SimCLR and its relatives share.

    Parameters
    ----------
    size, n
        Side of a view in pixels (or height and width); views of each image.
    scale
        Least and largest share of the image's area that a crop covers.
    flip, jitter, gray
        Probabilities.
    strengths
        Brightness, contrast, saturation and hue of the jitter; see `RandomColorJitter`.
    blur, solarize
        Probabilities: one for all views, or one for each of the `n`.
    normalize, dtype, device
        See the module.
    """
    blurs, solarizes = ([p] * n if isinstance(p, (int, float)) else list(p) for p in (blur, solarize))
    if not n == len(blurs) == len(solarizes):
        raise PipelineError(f"blur and solarize have one probability, or one for each of {n} views; got {blur!r} and {solarize!r}.")
    crop, color = RandomResizedCrop(size, scale=scale), RandomColorJitter(jitter, *strengths)
    views = [_augment(crop, flip, color, gray, GaussianBlur(p), q) for p, q in zip(blurs, solarizes, strict=True)]
    return _finish([MultiView(views)], normalize, dtype, device)


def simclr(size: Size = 224, *, strength: float = 1.0, **options: Any) -> list[Any]:
    """Return views as in SimCLR (Chen et al. 2020, appendix A); `strength` scales the jitter, `options` are those of `augmented`."""
    return augmented(size, strengths=(0.8 * strength, 0.8 * strength, 0.8 * strength, 0.2 * strength), **options)


def byol(size: Size = 224, **options: Any) -> list[Any]:
    """Return two views as in BYOL (Grill et al. 2020, table 6): the first always blurred, the second sometimes solarized."""
    return augmented(size, **{"strengths": (0.4, 0.4, 0.2, 0.1), "blur": (1.0, 0.1), "solarize": (0.0, 0.2), **options})


def barlow_twins(size: Size = 224, **options: Any) -> list[Any]:
    """Return the two views of Barlow Twins (Zbontar et al. 2021), which are those of `byol`."""
    return byol(size, **options)


def vicreg(size: Size = 224, **options: Any) -> list[Any]:
    """Return the two views of VICReg (Bardes et al. 2022), which are those of `byol`."""
    return byol(size, **options)


def emp_ssl(
    n: int = 20, *, patch: Size | float = 16, size: Size = 32, normalize: Normalize = None, dtype: Any = np.float32, device: Any = None
) -> list[Any]:
    """Return `n` views as in EMP-SSL's released code: patches of `patch`² pixels, resized to `size`².

    A `patch` below 1 is a share of the image's area instead, of aspect ratio 3/4 to 4/3 and resized by a bicubic filter: the released
    code's patches of ImageNet (.25).

    Deviation: the blur is a true Gaussian of 13 taps; the released code calls Pillow's approximation by box filters.
    """
    crop: Any
    if isinstance(patch, float) and patch < 1:
        crop = RandomResizedCrop(size, scale=(patch, patch), interpolation="bicubic")
    else:
        crop = RandomPatchCrop(size, patch=patch)  # type: ignore[arg-type]  # which refuses what is no size
    jitter = RandomColorJitter(0.8, 0.4, 0.4, 0.4, 0.2)
    view = _augment(crop, 0.5, jitter, 0.2, GaussianBlur(0.1, kernel_size=13), 0.1)
    return _finish([MultiView(view, n=n)], normalize, dtype, device)


def multi_crop(
    sizes: Sequence[Size] = (224, 96),
    *,
    counts: Sequence[int] = (2, 6),
    scales: Sequence[tuple[float, float]] = ((0.14, 1.0), (0.05, 0.14)),
    normalize: Normalize = None,
    dtype: Any = np.float32,
    device: Any = None,
) -> list[Any]:
    """Return `counts[i]` views of `sizes[i]` each, one tensor per size, as in SwAV (Caron et al. 2020)."""
    if not len(sizes) == len(counts) == len(scales):
        raise PipelineError("multi_crop: sizes, counts and scales have one entry per crop size.")
    views = []
    for size, count, scale in zip(sizes, counts, scales, strict=True):
        view = _augment(RandomResizedCrop(size, scale=scale), 0.5, RandomColorJitter(0.8, 0.8, 0.8, 0.8, 0.2), 0.2, GaussianBlur(0.5), 0.0)
        views += [view] * count
    return _finish([MultiView(views)], normalize, dtype, device)


def plain(
    size: Size = 224, *, ratio: float = 224 / 256, normalize: Normalize = None, dtype: Any = np.float32, device: Any = None
) -> list[Any]:
    """Return one unaugmented view without a view axis: the central square of `ratio` times the shorter side."""
    return _finish([CenterCrop(size, ratio=ratio)], normalize, dtype, device)
