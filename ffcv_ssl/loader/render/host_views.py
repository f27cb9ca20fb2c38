"""What one field's part of a batch is made in, and that of the views which the CPU renders."""

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import torch

from ffcv_ssl.kernels.cpu.scratch import Scratch
from ffcv_ssl.kernels.cpu.view import render_views
from ffcv_ssl.kernels.rows import NUM_COLUMNS
from ffcv_ssl.loader.engine.buffers import BufferPool, as_tensor, pinned_tensor
from ffcv_ssl.pipeline.plan import ImagePlan, TensorPlan

IDENTITY_LUT = np.tile(np.arange(256, dtype=np.uint8), (3, 1))
Render = Callable[[np.ndarray, Sequence[np.ndarray], int], None]  # (sample_ids, memory of the batch, start)


class BatchMemory(Protocol):
    """What one field's part of a batch is made in."""

    def fill(self, sample_ids: np.ndarray, start: int) -> None:
        """Make samples (n,) in positions from `start` on, in a thread of the engine; SampleError where one cannot be read or decoded."""

    def ready(self) -> None:
        """All samples are there, says the thread that made the last."""

    def tensors(self) -> list[torch.Tensor]:
        """Return the views in the order of the plan's tensors; called once, by the thread that takes the batch."""


class HostViews:
    """Views that the CPU renders, in memory of the pool, or in pinned memory where they go to a GPU when they are finished."""

    def __init__(self, plan: ImagePlan, render: Render, num_samples: int, pool: BufferPool):
        self._render = render
        self._arrays: list[np.ndarray] = []
        self._tensors: list[torch.Tensor] = []
        for output in plan.outputs:
            for tensor_plan in output.tensors:
                shape = tensor_plan.shape(num_samples)
                if output.device.type == "cuda":
                    tensor = pinned_tensor(shape, tensor_plan.dtype)
                    array = (tensor.view(torch.uint16) if tensor_plan.lut.dtype == np.uint16 else tensor).numpy()
                else:
                    array = pool.take(shape, tensor_plan.lut.dtype)
                    tensor = as_tensor(array, tensor_plan.dtype)
                self._tensors.append(tensor)
                self._arrays.append(array)

    def fill(self, sample_ids: np.ndarray, start: int) -> None:
        """Render all views of some samples."""
        self._render(sample_ids, self._arrays, start)

    def ready(self) -> None:
        """From here on the memory belongs to the tensors."""
        self._arrays = []

    def tensors(self) -> list[torch.Tensor]:
        """Return the memory as tensors."""
        return self._tensors


def render_tensor(images: np.ndarray, plan: TensorPlan, rows: np.ndarray, scratch: Scratch, out: np.ndarray) -> None:
    """Render one tensor's views of images of one size, in as many passes as the plan has; passes before the last give bytes."""
    count, height, width, _ = images.shape
    source, source_rows, views = images.reshape(count, height, 3 * width), rows[:, :, 0], out
    for index in range(plan.num_passes):
        if index:  # every finished view is now an image of its own
            source = views.reshape(-1, plan.size[0], 3 * plan.size[1])
            source_rows = rows[:, :, index].reshape(-1, 1, NUM_COLUMNS)
        last = index == plan.num_passes - 1
        lead = source_rows.shape[:2]
        views = out.reshape(*lead, *out.shape[2:]) if last else np.empty((*lead, *plan.size, 3), np.uint8)
        lut, channels_last = (plan.lut, plan.channels_last) if last else (IDENTITY_LUT, True)
        render_views(source, np.ascontiguousarray(source_rows), lut, scratch, channels_last, views)
