"""The chain of augmentations that SimCLR and related methods share, and its parameters."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ffcv_ssl.errors import PipelineError
from ffcv_ssl.transforms import (
    GaussianBlur,
    NormalizeImage,
    RandomColorJitter,
    RandomGrayscale,
    RandomHorizontalFlip,
    RandomSolarization,
    ToDevice,
)

Size = int | tuple[int, int]
Normalize = tuple[Sequence[float], Sequence[float]] | None
Render = Literal["cpu", "gpu"]
PerView = float | Sequence[float]  # one probability for all views, or one per view


@dataclass(frozen=True)
class Augmentation:
    """Parameters of a method's views. The defaults are SimCLR's (Chen et al. 2020, appendix A).

    Parameters
    ----------
    scale
        Range (low, high) of a crop's area as a fraction of the image's area, within [0, 1].
    flip
        Probability of a horizontal flip, in [0, 1].
    jitter
        Probability of the color jitter, in [0, 1].
    strengths
        Strengths of brightness, contrast, saturation and hue; see `RandomColorJitter`.
    gray
        Probability of grayscale, in [0, 1].
    blur
        Probability of the Gaussian blur, in [0, 1]: one for all views, or one per view.
    solarize
        Probability of solarization, in [0, 1]: one for all views, or one per view.

    Examples
    --------
    >>> from ffcv_ssl.pipeline.augmentation import Augmentation
    >>> Augmentation(strengths=(0.4, 0.4, 0.4, 0.1), blur=0.0).scale
    (0.08, 1.0)
    """

    scale: tuple[float, float] = (0.08, 1.0)
    flip: float = 0.5
    jitter: float = 0.8
    strengths: tuple[float, float, float, float] = (0.8, 0.8, 0.8, 0.2)
    gray: float = 0.2
    blur: PerView = 0.5
    solarize: PerView = 0.0


SIMCLR_VIEWS = Augmentation()
# Grill et al. 2020, table 6.
BYOL_VIEWS = Augmentation(strengths=(0.4, 0.4, 0.2, 0.1), blur=(1.0, 0.1), solarize=(0.0, 0.2))


def finish(
    views: list[Any], normalize: Normalize, dtype: Any, device: Any, render: str
) -> list[Any]:
    """Add `ToDevice` and the normalization to a pipeline.

    The normalization comes last, so that the loader copies bytes to the device and not floats.

    Parameters
    ----------
    views
        Pipeline that renders uint8 views.
    normalize
        (mean, std) on the 0..255 scale; None adds no normalization.
    dtype
        dtype of normalized views: float32, float16 or bfloat16.
    device
        Device of the batch; None is host memory.
    render
        "cpu" or "gpu": where views are rendered.

    Raises
    ------
    PipelineError
        If `render` is unknown, or is "gpu" without a device.
    """
    if render not in ("cpu", "gpu"):
        raise PipelineError(f"render must be 'cpu' or 'gpu', got {render!r}.")
    if render == "gpu" and device is None:
        raise PipelineError("render='gpu' needs a device, for instance device='cuda'.")
    if device is not None:
        views = [ToDevice(device), *views] if render == "gpu" else [*views, ToDevice(device)]
    return views if normalize is None else [*views, NormalizeImage(*normalize, dtype)]


def augment(
    crop: Any,
    flip: float,
    jitter: RandomColorJitter,
    gray: float,
    blur: GaussianBlur,
    solarize: float,
) -> list[Any]:
    """Return the shared chain of augmentations, without steps of probability 0.

    Parameters
    ----------
    crop
        Crop that begins the chain.
    flip, gray, solarize
        Probabilities in [0, 1].
    jitter, blur
        Transforms with their own probabilities.
    """
    steps = [crop]
    steps += [RandomHorizontalFlip(flip)] if flip else []
    steps += [jitter] if jitter.jitter_prob else []
    steps += [RandomGrayscale(gray)] if gray else []
    steps += [blur] if blur.blur_prob else []
    return steps + ([RandomSolarization(solarize)] if solarize else [])


def per_view(name: str, probability: PerView, n: int) -> list[float]:
    """Return one probability for each of `n` views; `name` is the parameter, for error messages."""
    if isinstance(probability, (int, float)):
        return [probability] * n
    if len(probability) != n:
        raise PipelineError(
            f"{name} has {len(probability)} probabilities, {probability!r}; for n={n} views pass "
            f"one number or {n} numbers."
        )
    return list(probability)
