"""Color augmentations: jitter, grayscale, solarization."""

import itertools
import numbers
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

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

# The 24 orders of the four color steps as base-4 digits, first step in the lowest digit.
ORDERS = np.array(
    [
        sum(step * 4**digit for digit, step in enumerate(order))
        for order in itertools.permutations(range(4))
    ],
    np.float32,
)


@dataclass(frozen=True)
class RandomColorJitter(KernelTransform):
    """Change brightness, contrast, saturation and hue in random order.

    Equivalent to `torchvision.transforms.ColorJitter` inside `RandomApply`. The hue is computed in
    exact HSV.

    Parameters
    ----------
    jitter_prob
        Probability that a view is changed, in [0, 1].
    brightness, contrast, saturation
        Strength >= 0 of each step: factors are uniform in [max(0, 1 - value), 1 + value]. A pair
        (low, high) within [0, 255] gives the range of the factor itself.
    hue
        Largest hue shift in turns, in [0, 0.5]: shifts are uniform in [-hue, hue]. A pair (low,
        high) within [-0.5, 0.5] gives the range itself.
    seed
        Seed that replaces the loader's seed for this transform; None (default) uses the loader's.

    Raises
    ------
    PipelineError
        If a value is out of range.

    Examples
    --------
    >>> from ffcv_ssl.transforms import RandomColorJitter, RandomResizedCrop
    >>> pipeline = [RandomResizedCrop(224), RandomColorJitter(0.8, 0.4, 0.4, 0.2, 0.1)]
    >>> RandomColorJitter(brightness=0.5).brightness
    (0.5, 1.5)
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

    def __post_init__(self) -> None:
        check_probability("RandomColorJitter", "jitter_prob", self.jitter_prob)
        for parameter in ("brightness", "contrast", "saturation", "hue"):
            value = getattr(self, parameter)
            if not isinstance(value, (tuple, list)):
                if not isinstance(value, numbers.Real) or value < 0:
                    raise PipelineError(
                        f"RandomColorJitter: {parameter} must be a number >= 0 or a pair "
                        f"(low, high), got {value!r}."
                    )
                strength: Any = value
                if parameter == "hue":
                    value = (-strength, strength)
                else:
                    value = (max(0, 1 - strength), 1 + strength)
            low, high = (-0.5, 0.5) if parameter == "hue" else (0, 255)
            bounds = check_range("RandomColorJitter", parameter, value, low, high)
            object.__setattr__(self, parameter, bounds)

    def draw(self, keys: Keys, sizes: NDArray[np.integer[Any]], table: Columns) -> None:
        """Draw order and factors; factors are neutral for views that are not changed."""
        applied = keys.uniform("applied") < self.jitter_prob
        table["order"] = ORDERS[(keys.uniform("order") * np.float32(24)).astype(np.int64)]
        for parameter in ("brightness", "contrast", "saturation", "hue"):
            factors = uniform_between(keys.uniform(parameter), getattr(self, parameter))
            table[parameter] = self.neutral_unless(applied, parameter, factors)


@dataclass(frozen=True)
class RandomGrayscale(KernelTransform):
    """Replace all channels of a view by its luma with probability `gray_prob`.

    Parameters
    ----------
    gray_prob
        Probability that a view becomes gray, in [0, 1].
    seed
        Seed that replaces the loader's seed for this transform; None (default) uses the loader's.

    Raises
    ------
    PipelineError
        If `gray_prob` is out of range.

    References
    ----------
    Luma: ITU-R BT.601, rounded as in Pillow's mode L.

    Examples
    --------
    >>> from ffcv_ssl.transforms import RandomGrayscale, RandomResizedCrop
    >>> pipeline = [RandomResizedCrop(224), RandomGrayscale(0.2)]
    """

    gray_prob: float = 0.2
    seed: int | None = None

    name: ClassVar[str] = "gray"
    label: ClassVar[str] = "gray"
    columns: ClassVar[Mapping[str, int]] = {"applied": col.GRAY}

    def __post_init__(self) -> None:
        check_probability("RandomGrayscale", "gray_prob", self.gray_prob)

    def draw(self, keys: Keys, sizes: NDArray[np.integer[Any]], table: Columns) -> None:
        """Draw which views become gray."""
        table["applied"] = keys.uniform("applied") < self.gray_prob


@dataclass(frozen=True)
class RandomSolarization(KernelTransform):
    """Invert all values that are at least `threshold` with probability `solarization_prob`.

    Parameters
    ----------
    solarization_prob
        Probability that a view is solarized, in [0, 1].
    threshold
        Smallest value that is inverted, on the 0..255 scale.
    seed
        Seed that replaces the loader's seed for this transform; None (default) uses the loader's.

    Raises
    ------
    PipelineError
        If a value is out of range.

    Examples
    --------
    >>> from ffcv_ssl.transforms import RandomResizedCrop, RandomSolarization
    >>> pipeline = [RandomResizedCrop(224), RandomSolarization(0.2, threshold=128)]
    """

    solarization_prob: float = 0.2
    threshold: float = 128
    seed: int | None = None

    name: ClassVar[str] = "solarize"
    label: ClassVar[str] = "solarize"
    columns: ClassVar[Mapping[str, int]] = {"threshold": col.THRESHOLD}

    def __post_init__(self) -> None:
        check_probability("RandomSolarization", "solarization_prob", self.solarization_prob)
        if not 0 <= self.threshold <= 255:
            raise PipelineError(
                f"RandomSolarization: threshold must be in 0..255, got {self.threshold!r}."
            )

    def draw(self, keys: Keys, sizes: NDArray[np.integer[Any]], table: Columns) -> None:
        """Draw which views are solarized."""
        applied = keys.uniform("applied") < self.solarization_prob
        table["threshold"] = self.neutral_unless(applied, "threshold", self.threshold)
