"""Parameters of the views of a batch, drawn before an image is decoded."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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
        Parameters by name.
    rows
        For each tensor (N, V, passes, NUM_COLUMNS) float32 kernel rows.
    boxes
        (N, levels, 5) int64, the part of each image to decode; see `plan_boxes`.
    """

    sample_ids: NDArray[np.int64]
    table: ParameterTable
    rows: tuple[NDArray[np.float32], ...]
    boxes: NDArray[np.int64]

    def replace(self, position: int, other: "BatchParameters") -> None:
        """Replace the sample at a position by the one sample of `other`."""
        self.sample_ids[position] = other.sample_ids[0]
        self.table.values[position] = other.table.values[0]
        self.boxes[position] = other.boxes[0]
        for rows, other_rows in zip(self.rows, other.rows, strict=True):
            rows[position] = other_rows[0]

    def keep(self, positions: NDArray[np.int64]) -> None:
        """Drop the table's rows of all other positions."""
        self.table.values = self.table.values[positions]


def draw_parameters(
    plan: ImagePlan,
    decode: str,
    sizes: NDArray[np.int64],
    modes: NDArray[np.uint8],
    seed: int,
    epoch: int,
    sample_ids: NDArray[np.int64],
    occurrences: NDArray[np.int64] | None,
) -> BatchParameters:
    """Draw the parameters of some samples, and plan the parts of their images to decode.

    Parameters
    ----------
    plan
        Views of the field.
    decode
        "exact", "full" or "fast"; see `Loader`.
    sizes, modes
        (N, 2) heights and widths, and (N,) modes, of the samples' stored images.
    seed, epoch, sample_ids, occurrences
        As in `Keys`.

    Returns
    -------
    BatchParameters
        The parameters.
    """
    table = plan.draw(seed, epoch, sample_ids, sizes, occurrences)
    rows = tuple(tensor.rows(table) for tensor in plan.tensors)
    first_passes = [tensor_rows[:, :, 0] for tensor_rows in rows]
    if decode == "fast":
        for tensor, tensor_rows in zip(plan.tensors, first_passes, strict=True):
            scale_crops(tensor_rows, tensor.size, sizes, modes)
    boxes = plan_boxes(decode, first_passes, sizes)
    return BatchParameters(sample_ids.copy(), table, rows, boxes)
