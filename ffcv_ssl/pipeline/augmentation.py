"""The chain of augmentations that SimCLR and its relatives share, and the numbers of the methods."""

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
PerView = float | Sequence[float]  # a probability for all views, or one for each


@dataclass(frozen=True)
class Augmentation:
    """The numbers of a method's views. The defaults are those of SimCLR (Chen et al. 2020, appendix A).

    Parameters
    ----------
    scale
        Least and largest share of the image's area that a crop covers.
    flip, jitter, gray
        Probabilities.
    strengths
        Brightness, contrast, saturation and hue of the jitter; see `RandomColorJitter`.
    blur, solarize
        Probabilities: one for all views, or one for each view.
    """

    scale: tuple[float, float] = (0.08, 1.0)
    flip: float = 0.5
    jitter: float = 0.8
    strengths: tuple[float, float, float, float] = (0.8, 0.8, 0.8, 0.2)
    gray: float = 0.2
    blur: PerView = 0.5
    solarize: PerView = 0.0


SIMCLR_VIEWS = Augmentation()
BYOL_VIEWS = Augmentation(
    strengths=(0.4, 0.4, 0.2, 0.1), blur=(1.0, 0.1), solarize=(0.0, 0.2)
)  # Grill et al. 2020, table 6


def finish(
    views: list[Any], normalize: Normalize, dtype: Any, device: Any, render: str
) -> list[Any]:
    """Add the device and the normalization, such that bytes are moved and not floats."""
    if render not in ("cpu", "gpu"):
        raise PipelineError(f"render is 'cpu' or 'gpu', got {render!r}.")
    if render == "gpu" and device is None:
        raise PipelineError("render='gpu' needs the GPU: give device, for instance device='cuda'.")
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
    """Return the chain that all methods share; steps that never happen are left out."""
    steps = [crop]
    steps += [RandomHorizontalFlip(flip)] if flip else []
    steps += [jitter] if jitter.jitter_prob else []
    steps += [RandomGrayscale(gray)] if gray else []
    steps += [blur] if blur.blur_prob else []
    return steps + ([RandomSolarization(solarize)] if solarize else [])


def per_view(name: str, probability: PerView, n: int) -> list[float]:
    """Return one probability for each of `n` views."""
    if isinstance(probability, (int, float)):
        return [probability] * n
    if len(probability) != n:
        raise PipelineError(
            f"{name} has {len(probability)} probabilities, {probability!r}; for n={n} views give one for all of them, or {n}."
        )
    return list(probability)
