"""Images of a batch for the GPU that renders their views.

The images of a batch are decoded into one pinned buffer, which is copied to the GPU ahead of use.
`BufferLayout` describes the buffer.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ffcv_ssl.errors import PipelineError
from ffcv_ssl.kernels import rows as col
from ffcv_ssl.kernels.cuda.launch import SHARED_BYTES, RenderPlan, plan_render, shared_bytes
from ffcv_ssl.loader.render.boxes import DENOMINATORS, HEIGHT, LEFT, TOP, WIDTH
from ffcv_ssl.loader.render.gpu_device import Device, PendingCopy
from ffcv_ssl.loader.render.gpu_memory import BufferLayout, DeviceImages
from ffcv_ssl.loader.render.parameters import BatchParameters
from ffcv_ssl.pipeline.plan import IDENTITY_LUT, ImagePlan, TensorPlan


class GpuBatch:
    """Images of one field in a batch, for the GPU that renders their views.

    Parameters
    ----------
    device
        The GPU.
    plan
        Views of the field.
    parameters
        Parameters of the views.
    device_images
        Images on the device, which are then not copied; None otherwise.
    """

    def __init__(
        self,
        device: Device,
        plan: ImagePlan,
        parameters: BatchParameters,
        device_images: DeviceImages | None,
    ):
        self.parameters = parameters
        self._device, self._plan, self._device_images = device, plan, device_images
        # The boxes for which memory is allocated; a substitute may have a larger one.
        self._boxes = parameters.boxes.copy()
        if device_images is not None:
            self._boxes[:, :, HEIGHT] = 0
        self._layout = BufferLayout(plan.tensors, self._boxes)
        self._host = device.pinned(self._layout.num_bytes)
        self._pixels = self._layout.pixels.view(self._host).numpy()
        self._overflow: dict[int, list[NDArray[np.uint8]]] = {}  # position → boxes of a substitute
        self._copies: list[PendingCopy] = []
        self._renders: list[list[RenderPlan]] = []

    @property
    def num_bytes(self) -> int:
        """Number of bytes copied to the device."""
        return self._layout.num_bytes

    def fits(self, start: int, count: int) -> bool:
        """Return whether the boxes at some positions are those that memory is allocated for."""
        positions = slice(start, start + count)
        return np.array_equal(self.parameters.boxes[positions], self._boxes[positions])

    def destination(
        self, start: int, count: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.uint8]]:
        """Return the memory for the images at some positions.

        Parameters
        ----------
        start, count
            First position, and number of positions.

        Returns
        -------
        boxes
            (count, levels, 5) int64, the part of each image to decode.
        starts
            (count, levels) int64, offset of each box in `pixels`.
        pixels
            uint8, the pixels of the whole batch.
        """
        positions = slice(start, start + count)
        return self.parameters.boxes[positions], self._layout.starts[positions], self._pixels

    def add_overflow(self, position: int, boxes: list[NDArray[np.uint8]]) -> None:
        """Add the pixels of a substitute that does not fit into the memory of the batch."""
        self._overflow[position] = boxes

    def discard_overflow(self, start: int, count: int) -> None:
        """Discard the pixels of substitutes that were tried before at some positions."""
        for position in range(start, start + count):
            self._overflow.pop(position, None)

    def seal(self) -> None:
        """End the writing: write the arrays that the kernels read, and start the copy."""
        origins = self._origins()
        for plan, passes, rows in zip(
            self._plan.tensors, self._layout.views, self.parameters.rows, strict=True
        ):
            renders = []
            for index, sections in enumerate(passes):
                render = plan_render(np.ascontiguousarray(rows[:, :, index]), plan.size)
                self._check_shared_memory(render)
                if index == 0:
                    sources = _image_sources(rows[:, :, 0], origins)
                else:
                    sources = _view_sources(plan, len(rows))
                arrays: dict[str, NDArray[Any]] = {
                    "rows": rows[:, :, index],
                    "sources": sources,
                    "slots": render.slots,
                    "blurred": render.blurred,
                }
                for name, values in arrays.items():
                    target = sections[name].view(self._host).numpy().reshape(-1)
                    target[: values.size] = values.reshape(-1)
                renders.append(render)
            self._renders.append(renders)
        overflow = [box.reshape(-1) for boxes in self._overflow.values() for box in boxes]
        self._copies = [self._device.copy_async(self._host)]
        if overflow:
            pixels = torch.from_numpy(np.concatenate(overflow))
            self._copies.append(self._device.copy_async(pixels))
        del self._host, self._pixels  # torch keeps the memory until the copy has ended

    def _check_shared_memory(self, render: RenderPlan) -> None:
        """Raise PipelineError if a view needs more shared memory than a block has."""
        if shared_bytes(render) > SHARED_BYTES:
            raise PipelineError(
                f"field {self._plan.field!r}: a view of {render.size} needs more shared memory "
                f"than the GPU has, because it shrinks its crop too much or its blur is too wide "
                f"({render.taps} source positions, radius {render.radius}); "
                "put ToDevice behind the transforms."
            )

    def _origins(self) -> NDArray[np.int64]:
        """Return (N, levels, 2): where pixel (0, 0) of the image of each box would be.

        The values are its offset from the first pixel of the batch, and bytes per row.
        """
        if self._device_images is not None:
            return self._device_images.origins(self.parameters.sample_ids)
        boxes, starts = self.parameters.boxes, self._layout.starts.copy()
        offset = self._layout.pixels.shape[0]  # substitutes follow the pixels of the buffer
        for position, parts in self._overflow.items():
            for level, part in enumerate(parts):
                starts[position, level] = offset
                offset += part.size
        stride = 3 * boxes[:, :, WIDTH]
        origins = starts - boxes[:, :, TOP] * stride - 3 * boxes[:, :, LEFT]
        return np.stack((origins, stride), axis=-1)

    def tensors(self) -> list[torch.Tensor]:
        """Render the views on the current stream of the device; called by the consumer."""
        copied = [self._device.wait_for_copy(copy) for copy in self._copies]
        buffer = copied[0]
        if self._device_images is not None:
            pixels = self._device_images.pixels
            self._device.record_use(pixels)
        else:
            pixels = self._layout.pixels.view(buffer)
        if len(copied) > 1:
            pixels = torch.cat((pixels, copied[1]))
        views = []
        for plan, passes, renders in zip(
            self._plan.tensors, self._layout.views, self._renders, strict=True
        ):
            source = pixels
            for index, (sections, render) in enumerate(zip(passes, renders, strict=True)):
                inputs = {name: section.view(buffer) for name, section in sections.items()}
                is_last = index == plan.num_passes - 1
                source = self._render(plan, render, source, inputs, is_last)
            views.append(source.view(plan.dtype).view(plan.shape(len(self._boxes))))
        return views

    def _render(
        self,
        plan: TensorPlan,
        render: RenderPlan,
        pixels: torch.Tensor,
        inputs: Mapping[str, torch.Tensor],
        is_last: bool,
    ) -> torch.Tensor:
        """Run one pass; all passes but the last produce uint8 views with channels last."""
        device = self._device
        table = device.table(plan.lut if is_last else IDENTITY_LUT)
        out = device.empty((math.prod(plan.shape(len(self._boxes))),), table.dtype)
        totals = sharp = None
        if not render.in_shared:
            num_blurred = max(len(render.blurred), 1)
            sharp = device.empty((num_blurred, 3, *plan.size), torch.float32)
            totals = device.zeros(tuple(inputs["slots"].shape), torch.int32)
        arrays = pixels, inputs["sources"], inputs["rows"], table
        work = totals, inputs["slots"], inputs["blurred"], sharp
        device.launch(render, arrays, work, plan.channels_last if is_last else True, out)
        return out


def _image_sources(rows: NDArray[np.float32], origins: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return (N, V, 2): the origin of the box that each view reads in the first pass."""
    levels = np.searchsorted(DENOMINATORS[: origins.shape[1]], rows[..., col.DENOMINATOR])
    return np.take_along_axis(origins, levels[..., None], axis=1)


def _view_sources(plan: TensorPlan, count: int) -> NDArray[np.int64]:
    """Return (N, V, 2): the origin of each view of the previous pass, with channels last."""
    height, width = plan.size
    numbers = np.arange(count * plan.num_views, dtype=np.int64).reshape(count, plan.num_views)
    return np.stack((numbers * 3 * height * width, np.full_like(numbers, 3 * width)), axis=-1)
