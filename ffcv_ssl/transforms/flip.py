"""Mirror a view."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ffcv_ssl.kernels import rows as col
from ffcv_ssl.transforms.base import Columns, KernelTransform, check_probability
from ffcv_ssl.transforms.keys import Keys


@dataclass(frozen=True)
class RandomHorizontalFlip(KernelTransform):
    """Mirror a view left to right with probability `flip_prob`."""

    flip_prob: float = 0.5
    seed: int | None = None

    name: ClassVar[str] = "flip"
    label: ClassVar[str] = "flip"
    columns: ClassVar[Mapping[str, int]] = {"applied": col.FLIP}

    def __post_init__(self):
        check_probability("RandomHorizontalFlip", "flip_prob", self.flip_prob)

    def draw(self, keys: Keys, sizes: np.ndarray, table: Columns) -> None:
        """Draw whether to mirror."""
        table["applied"] = keys.uniform("applied") < self.flip_prob
