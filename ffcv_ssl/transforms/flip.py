"""Horizontal flip."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ffcv_ssl.kernels import rows as col
from ffcv_ssl.transforms.base import Columns, KernelTransform, check_probability
from ffcv_ssl.transforms.keys import Keys


@dataclass(frozen=True)
class RandomHorizontalFlip(KernelTransform):
    """Mirror a view left to right with probability `flip_prob`.

    Parameters
    ----------
    flip_prob
        Probability that a view is mirrored, in [0, 1].
    seed
        Seed that replaces the loader's seed for this transform; None (default) uses the loader's.

    Raises
    ------
    PipelineError
        If `flip_prob` is out of range.

    Examples
    --------
    >>> from ffcv_ssl.transforms import RandomHorizontalFlip, RandomResizedCrop
    >>> pipeline = [RandomResizedCrop(224), RandomHorizontalFlip(0.5)]
    """

    flip_prob: float = 0.5
    seed: int | None = None

    name: ClassVar[str] = "flip"
    label: ClassVar[str] = "flip"
    columns: ClassVar[Mapping[str, int]] = {"applied": col.FLIP}

    def __post_init__(self) -> None:
        check_probability("RandomHorizontalFlip", "flip_prob", self.flip_prob)

    def draw(self, keys: Keys, sizes: NDArray[np.integer[Any]], table: Columns) -> None:
        """Draw which views are mirrored."""
        table["applied"] = keys.uniform("applied") < self.flip_prob
