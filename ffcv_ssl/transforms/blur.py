"""Blur a view."""

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


@dataclass(frozen=True)
class GaussianBlur(KernelTransform):
    """Blur a view with probability `blur_prob`.

    The filter has radius min(kernel_size // 2, ceil(3 sigma)) and is renormalised; borders are reflected as in torchvision,
    and the radius never exceeds the view's shorter side - 1.

    Parameters
    ----------
    blur_prob
        Probability that a view is blurred.
    kernel_size
        Full width of the filter in pixels, odd; None means an odd tenth of the view's shorter side, at least 3.
    sigma
        Range of the standard deviation in pixels, drawn uniformly.
    """

    blur_prob: float = 0.5
    kernel_size: int | None = None
    sigma: tuple[float, float] = (0.1, 2.0)
    seed: int | None = None

    name: ClassVar[str] = "blur"
    label: ClassVar[str] = "blur {:.1f}"
    parameters: ClassVar[tuple[str, ...]] = ("sigma",)
    neutral: ClassVar[Mapping[str, float]] = {"sigma": 0.0}

    def __post_init__(self):
        check_probability("GaussianBlur", "blur_prob", self.blur_prob)
        object.__setattr__(
            self, "sigma", check_range("GaussianBlur", "sigma", self.sigma, 1e-3, 1e3)
        )
        if self.kernel_size is not None and (
            not isinstance(self.kernel_size, (int, np.integer))
            or self.kernel_size < 1
            or self.kernel_size % 2 == 0
        ):
            raise PipelineError(
                f"GaussianBlur: kernel_size is odd and positive, got {self.kernel_size!r}."
            )

    def draw(self, keys: Keys, sizes: np.ndarray, table: Columns) -> None:
        """Draw sigma; views that are left alone get 0."""
        sigma = uniform_between(keys.uniform("sigma"), self.sigma)
        table["sigma"] = self.unless(keys.uniform("applied") < self.blur_prob, "sigma", sigma)

    def fill(self, table: Columns, rows: np.ndarray, size: tuple[int, int]) -> None:
        """Translate sigma into the filter's radius and falloff."""
        sigma = table["sigma"].astype(np.float64)
        kernel_size = self.kernel_size or max(min(size) // 10 | 1, 3)
        rows[..., col.RADIUS] = np.minimum(np.ceil(3 * sigma), min(kernel_size // 2, min(size) - 1))
        with np.errstate(under="ignore"):  # of a filter so narrow that only its centre counts
            rows[..., col.FALLOFF] = np.exp(-1 / (2 * np.maximum(sigma, 1e-3) ** 2))
