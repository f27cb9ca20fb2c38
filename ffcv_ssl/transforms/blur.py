"""Gaussian blur."""

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

MIN_SIGMA, MAX_SIGMA = 1e-3, 1e3


@dataclass(frozen=True)
class GaussianBlur(KernelTransform):
    """Blur a view with probability `blur_prob`.

    The filter is a normalized Gaussian of radius min(kernel_size // 2, ceil(3 sigma)). The radius
    is at most the view's shorter side minus 1. Borders are reflected, as in torchvision.

    Parameters
    ----------
    blur_prob
        Probability that a view is blurred, in [0, 1].
    kernel_size
        Full width of the filter in pixels, odd and positive. None (default) uses one tenth of the
        view's shorter side, made odd, and at least 3.
    sigma
        Range (low, high) of the standard deviation in pixels, within [0.001, 1000]. Each view draws
        its standard deviation uniformly.
    seed
        Seed that replaces the loader's seed for this transform; None (default) uses the loader's.

    Raises
    ------
    PipelineError
        If `blur_prob` or `sigma` is out of range, or `kernel_size` is not odd and positive.

    Examples
    --------
    >>> from ffcv_ssl.transforms import GaussianBlur, RandomResizedCrop
    >>> pipeline = [RandomResizedCrop(224), GaussianBlur(0.5, kernel_size=23, sigma=(0.1, 2.0))]
    """

    blur_prob: float = 0.5
    kernel_size: int | None = None
    sigma: tuple[float, float] = (0.1, 2.0)
    seed: int | None = None

    name: ClassVar[str] = "blur"
    label: ClassVar[str] = "blur {:.1f}"
    parameters: ClassVar[tuple[str, ...]] = ("sigma",)
    neutral: ClassVar[Mapping[str, float]] = {"sigma": 0.0}

    def __post_init__(self) -> None:
        check_probability("GaussianBlur", "blur_prob", self.blur_prob)
        sigma = check_range("GaussianBlur", "sigma", self.sigma, MIN_SIGMA, MAX_SIGMA)
        object.__setattr__(self, "sigma", sigma)
        if self.kernel_size is not None and (
            not isinstance(self.kernel_size, (int, np.integer))
            or self.kernel_size < 1
            or self.kernel_size % 2 == 0
        ):
            raise PipelineError(
                f"GaussianBlur: kernel_size must be odd and positive, got {self.kernel_size!r}."
            )

    def draw(self, keys: Keys, sizes: NDArray[np.integer[Any]], table: Columns) -> None:
        """Draw sigma; it is 0 for views that are not blurred."""
        sigma = uniform_between(keys.uniform("sigma"), self.sigma)
        applied = keys.uniform("applied") < self.blur_prob
        table["sigma"] = self.neutral_unless(applied, "sigma", sigma)

    def fill(self, table: Columns, rows: NDArray[np.float32], size: tuple[int, int]) -> None:
        """Convert sigma to the filter's radius and falloff."""
        sigma = table["sigma"].astype(np.float64)
        kernel_size = self.kernel_size or max(min(size) // 10 | 1, 3)
        max_radius = min(kernel_size // 2, min(size) - 1)
        rows[..., col.RADIUS] = np.minimum(np.ceil(3 * sigma), max_radius)
        with np.errstate(under="ignore"):  # underflows for filters with one nonzero weight
            rows[..., col.FALLOFF] = np.exp(-1 / (2 * np.maximum(sigma, MIN_SIGMA) ** 2))
