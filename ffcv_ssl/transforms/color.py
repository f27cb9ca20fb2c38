"""Colour augmentations: jitter, greyscale, solarization."""

import itertools
import numbers
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ffcv_ssl.errors import PipelineError
from ffcv_ssl.kernels import rows as col
from ffcv_ssl.transforms.base import (
    Columns,
    KernelTransform,
    check_probability,
    check_range,
    uniform_between,
)
from ffcv_ssl.transforms.keys import Keys

# The 24 orders of the four colour steps, each as base-4 digits, first step lowest.
ORDERS = np.array(
    [
        sum(step * 4**place for place, step in enumerate(order))
        for order in itertools.permutations(range(4))
    ],
    np.float32,
)


@dataclass(frozen=True)
class RandomColorJitter(KernelTransform):
    """Change brightness, contrast, saturation and hue in random order, with probability `jitter_prob`.

    As `torchvision.transforms.ColorJitter` inside `RandomApply`; hue turns in exact HSV.

    Parameters
    ----------
    jitter_prob
        Probability that a view is changed at all.
    brightness, contrast, saturation
        Factors are uniform in [max(0, 1 - value), 1 + value], or in the given pair (low, high) >= 0.
    hue
        Shift in turns, uniform in [-hue, hue] with hue <= 0.5, or in the given pair within [-0.5, 0.5].
    """

    jitter_prob: float = 0.8
    brightness: float | tuple[float, float] = 0.8
    contrast: float | tuple[float, float] = 0.8
    saturation: float | tuple[float, float] = 0.8
    hue: float | tuple[float, float] = 0.2
    seed: int | None = None

    name: ClassVar[str] = "jitter"
    label: ClassVar[str] = "jitter"
    columns: ClassVar[Mapping[str, int]] = {
        "order": col.ORDER,
        "brightness": col.BRIGHTNESS,
        "contrast": col.CONTRAST,
        "saturation": col.SATURATION,
        "hue": col.HUE,
    }

    def __post_init__(self):
        check_probability("RandomColorJitter", "jitter_prob", self.jitter_prob)
        for parameter in ("brightness", "contrast", "saturation", "hue"):
            value = getattr(self, parameter)
            if not isinstance(value, (tuple, list)):
                if not isinstance(value, numbers.Real) or value < 0:
                    raise PipelineError(
                        f"RandomColorJitter: {parameter} is a number >= 0 or a pair (low, high), got {value!r}."
                    )
                value = (-value, value) if parameter == "hue" else (max(0, 1 - value), 1 + value)
            low, high = (-0.5, 0.5) if parameter == "hue" else (0, 255)
            object.__setattr__(
                self, parameter, check_range("RandomColorJitter", parameter, value, low, high)
            )

    def draw(self, keys: Keys, sizes: np.ndarray, table: Columns) -> None:
        """Draw order and factors; views that are left alone get neutral factors."""
        applied = keys.uniform("applied") < self.jitter_prob
        table["order"] = ORDERS[(keys.uniform("order") * np.float32(24)).astype(np.int64)]
        for parameter in ("brightness", "contrast", "saturation", "hue"):
            factors = uniform_between(keys.uniform(parameter), getattr(self, parameter))
            table[parameter] = self.unless(applied, parameter, factors)


@dataclass(frozen=True)
class RandomGrayscale(KernelTransform):
    """Replace a view by its luma (ITU-R BT.601) in all three channels with probability `gray_prob`."""

    gray_prob: float = 0.2
    seed: int | None = None

    name: ClassVar[str] = "gray"
    label: ClassVar[str] = "gray"
    columns: ClassVar[Mapping[str, int]] = {"applied": col.GRAY}

    def __post_init__(self):
        check_probability("RandomGrayscale", "gray_prob", self.gray_prob)

    def draw(self, keys: Keys, sizes: np.ndarray, table: Columns) -> None:
        """Draw whether to grey."""
        table["applied"] = keys.uniform("applied") < self.gray_prob


@dataclass(frozen=True)
class RandomSolarization(KernelTransform):
    """Invert all values that reach `threshold` (0..255) with probability `solarization_prob`."""

    solarization_prob: float = 0.2
    threshold: float = 128
    seed: int | None = None

    name: ClassVar[str] = "solarize"
    label: ClassVar[str] = "solarize"
    columns: ClassVar[Mapping[str, int]] = {"threshold": col.THRESHOLD}

    def __post_init__(self):
        check_probability("RandomSolarization", "solarization_prob", self.solarization_prob)
        if not 0 <= self.threshold <= 255:
            raise PipelineError(
                f"RandomSolarization: threshold is on the 0..255 scale, got {self.threshold!r}."
            )

    def draw(self, keys: Keys, sizes: np.ndarray, table: Columns) -> None:
        """Draw whether to invert."""
        applied = keys.uniform("applied") < self.solarization_prob
        table["threshold"] = self.unless(applied, "threshold", self.threshold)
