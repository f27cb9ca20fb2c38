"""All that is known about the views of a batch before a pixel is touched."""

from dataclasses import dataclass

import numpy as np

from ffcv_ssl.loader.render.boxes import plan_boxes, scale_crops
from ffcv_ssl.pipeline.plan import ImagePlan
from ffcv_ssl.pipeline.table import ParameterTable


@dataclass
class BatchParameters:
    """Parameters of the views of some samples.

    Parameters
    ----------
    sample_ids
        (N,) int64.
    table
        The parameters by name.
    rows
        Kernel rows per tensor, (N, V, passes, NUM_COLUMNS) float32.
    boxes
        (N, levels, 5) int64, what to decode of each image; see `plan_boxes`.
    """

    sample_ids: np.ndarray
    table: ParameterTable
    rows: tuple[np.ndarray, ...]
    boxes: np.ndarray

    def replace(self, position: int, other: "BatchParameters") -> None:
        """Put the one sample of `other` at a position."""
        self.sample_ids[position] = other.sample_ids[0]
        self.table.values[position] = other.table.values[0]
        self.boxes[position] = other.boxes[0]
        for mine, new in zip(self.rows, other.rows, strict=True):
            mine[position] = new[0]

    def keep(self, positions: np.ndarray) -> None:
        """Drop the table's rows of all other positions."""
        self.table.values = self.table.values[positions]


def draw_parameters(
    plan: ImagePlan,
    decode: str,
    sizes: np.ndarray,
    modes: np.ndarray,
    seed: int,
    epoch: int,
    sample_ids: np.ndarray,
    occurrences: np.ndarray | None,
) -> BatchParameters:
    """Draw the parameters of some samples, and plan what to decode.

    `sizes` (N, 2) and `modes` (N,) are those of the samples' stored images; `decode` is "exact",
    "full" or "fast"; the rest is as in `Keys`.
    """
    table = plan.draw(seed, epoch, sample_ids, sizes, occurrences)
    rows = tuple(tensor.rows(table) for tensor in plan.tensors)
    firsts = [tensor_rows[:, :, 0] for tensor_rows in rows]
    if decode == "fast":
        for tensor, tensor_rows in zip(plan.tensors, firsts, strict=True):
            scale_crops(tensor_rows, tensor.size, sizes, modes)
    return BatchParameters(sample_ids.copy(), table, rows, plan_boxes(decode, firsts, sizes))
