"""Groups of equal views, and how their parameters become kernel rows."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ffcv_ssl.kernels.rows import HEIGHT, WIDTH
from ffcv_ssl.pipeline.table import ParameterTable
from ffcv_ssl.transforms.base import KernelTransform, SampleTransform, ViewTransform
from ffcv_ssl.transforms.keys import Keys


@dataclass(frozen=True)
class ViewGroup:
    """Consecutive views of a field with equal transforms; their parameters are drawn together."""

    transforms: tuple[ViewTransform, ...]
    names: tuple[str, ...]
    """Column prefix of each transform."""
    passes: tuple[int, ...]
    """Render pass of each transform. A Python transform runs before the kernel of its pass."""
    size: tuple[int, int]
    """Height and width of the views, in pixels."""
    first: int
    """Index of the first view in the parameter table."""
    stop: int
    """Index after the last view."""

    @property
    def num_passes(self) -> int:
        """Number of render passes over these views."""
        return self.passes[-1] + 1

    def columns(self) -> list[str]:
        """Return the names of the columns that this group draws."""
        return [
            f"{name}.{parameter}"
            for name, transform in zip(self.names, self.transforms, strict=True)
            for parameter in transform.parameters
        ]

    def draw(self, keys: Keys, sizes: NDArray[np.integer[Any]], table: ParameterTable) -> None:
        """Draw the group's parameters into the table; `sizes` as in `ImagePlan.draw`."""
        views = slice(self.first, self.stop)
        for name, transform in zip(self.names, self.transforms, strict=True):
            transform_keys = keys.for_transform(name, transform.seed)
            transform.draw(transform_keys, sizes, table.select(name, views))

    def fill(self, table: ParameterTable, rows: NDArray[np.float32]) -> None:
        """Convert the group's parameters to kernel rows (N, V, passes, NUM_COLUMNS), in place."""
        # The passes after the first read the whole finished view.
        rows[..., 1:, HEIGHT], rows[..., 1:, WIDTH] = self.size
        views = slice(self.first, self.stop)
        for name, transform, index in zip(self.names, self.transforms, self.passes, strict=True):
            if isinstance(transform, KernelTransform):
                transform.fill(table.select(name, views), rows[:, :, index], self.size)

    def apply(
        self, index: int, table: ParameterTable, sample: int, views: NDArray[np.uint8]
    ) -> None:
        """Apply the Python transforms of a render pass to this group's views of one sample.

        Parameters
        ----------
        index
            Render pass.
        table
            Parameters of the batch.
        sample
            Index of the sample in the table.
        views
            (V, h, w, 3) uint8, the input of the pass; modified in place.
        """
        for name, transform, pass_index in zip(
            self.names, self.transforms, self.passes, strict=True
        ):
            if pass_index == index and isinstance(transform, SampleTransform):
                columns = {
                    parameter: table[f"{name}.{parameter}"][sample]
                    for parameter in transform.parameters
                }
                for view, number in zip(views, range(self.first, self.stop), strict=True):
                    values = {key: float(column[number]) for key, column in columns.items()}
                    transform.apply(view, values)
