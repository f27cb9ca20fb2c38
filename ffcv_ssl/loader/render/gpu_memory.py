"""Layout of the memory for images on a GPU: the buffer of a batch, and a whole dataset."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ffcv_ssl.kernels import rows as col
from ffcv_ssl.loader.render.boxes import HEIGHT, WIDTH
from ffcv_ssl.pipeline.plan import TensorPlan

ALIGNMENT = 16  # bytes


@dataclass(frozen=True)
class Section:
    """An array inside a buffer.

    Parameters
    ----------
    start
        Offset in the buffer, in bytes.
    shape, dtype
        Shape and dtype of the array.
    """

    start: int
    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def stop(self) -> int:
        """Offset of the end of the array, in bytes."""
        return self.start + math.prod(self.shape) * self.dtype.itemsize

    def view(self, buffer: torch.Tensor) -> torch.Tensor:
        """Return the array as a view of a uint8 buffer on any device."""
        return buffer[self.start : self.stop].view(self.dtype).view(self.shape)


class BufferLayout:
    """Layout of the buffer of a batch.

    The buffer begins with the arrays that the kernels read for each view: rows, sources, slots and
    blurred views. The pixels follow: of each image the boxes that its views read.

    Parameters
    ----------
    tensors
        Plans of the tensors.
    boxes
        (N, levels, 5) int64, the part of each image to copy.

    Attributes
    ----------
    views
        For each tensor and pass the sections of the arrays that the kernels read.
    pixels
        Section of the pixels.
    starts
        (N, levels) int64, offset of each box from the first pixel, in bytes.
    num_bytes
        Size of the buffer.
    """

    def __init__(self, tensors: Sequence[TensorPlan], boxes: NDArray[np.int64]):
        self._end = 0
        self.views = [
            [self._append_view_sections(len(boxes), plan) for _ in range(plan.num_passes)]
            for plan in tensors
        ]
        sizes = 3 * boxes[:, :, HEIGHT] * boxes[:, :, WIDTH]
        self.starts = (np.cumsum(sizes.reshape(-1)).reshape(sizes.shape) - sizes).astype(np.int64)
        self.pixels = self._append((int(sizes.sum()),), torch.uint8)
        self.num_bytes = self._end

    def _append_view_sections(self, count: int, plan: TensorPlan) -> dict[str, Section]:
        """Append the arrays that one pass over the views of `count` samples reads."""
        return {
            "rows": self._append((count, plan.num_views, col.NUM_COLUMNS), torch.float32),
            "sources": self._append((count, plan.num_views, 2), torch.int64),
            "slots": self._append((count, plan.num_views), torch.int32),
            "blurred": self._append((count * plan.num_views,), torch.int32),
        }

    def _append(self, shape: tuple[int, ...], dtype: torch.dtype) -> Section:
        """Append an array; the next one is aligned."""
        section = Section(self._end, shape, dtype)
        self._end = -(-section.stop // ALIGNMENT) * ALIGNMENT
        return section


@dataclass(frozen=True)
class DeviceImages:
    """Decoded images of a whole dataset in the memory of a GPU.

    Parameters
    ----------
    pixels
        uint8 on the device, one image after the other.
    offsets
        (num_samples,) int64 offset of each image in `pixels`, -1 for images that are not there.
    sizes
        (num_samples, 2) int64, heights and widths.
    """

    pixels: torch.Tensor
    offsets: NDArray[np.int64]
    sizes: NDArray[np.int64]

    @property
    def num_bytes(self) -> int:
        """Size on the device, in bytes."""
        return len(self.pixels)

    def origins(self, sample_ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return where the images of some samples are.

        Parameters
        ----------
        sample_ids
            (N,) int64.

        Returns
        -------
        numpy.ndarray
            (N, 1, 2) int64: offset of the first pixel, and bytes per row.
        """
        offsets = np.maximum(self.offsets[sample_ids], 0)  # skipped samples may have none
        return np.stack((offsets, 3 * self.sizes[sample_ids, 1]), axis=-1)[:, None]
