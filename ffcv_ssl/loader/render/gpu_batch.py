"""Images for the GPU that renders them: decoded into one pinned buffer per batch, copied at once, ahead of use.

The buffer begins with what the kernels need to know of every view (rows, sources, who is blurred) and goes on with the pixels: of each
image the box that its views read, as in `loader.boxes`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ffcv_ssl.errors import PipelineError
from ffcv_ssl.kernels import rows as col
from ffcv_ssl.kernels.cuda.launch import SHARED_BYTES, RenderPlan, plan_render, shared_bytes
from ffcv_ssl.loader.render.boxes import DENOMINATORS, HEIGHT, LEFT, TOP, WIDTH
from ffcv_ssl.loader.render.gpu_device import Device, PendingCopy
from ffcv_ssl.loader.render.parameters import BatchParameters
from ffcv_ssl.pipeline.plan import IDENTITY_LUT, ImagePlan, TensorPlan

ALIGNMENT = 16  # bytes


@dataclass(frozen=True)
class Section:
    """An array inside the buffer."""

    start: int
    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def stop(self) -> int:
        return self.start + math.prod(self.shape) * self.dtype.itemsize

    def of(self, buffer: torch.Tensor) -> torch.Tensor:
        """Return the array in a buffer, on whatever device that is."""
        return buffer[self.start : self.stop].view(self.dtype).view(self.shape)


class Layout:
    """Where everything lies in the buffer of a batch; per tensor and pass the sections of what the kernels need."""

    def __init__(self, tensors: Sequence[TensorPlan], boxes: np.ndarray):
        count, self._end = len(boxes), 0
        self.views: list[list[dict[str, Section]]] = [
            [
                {
                    "rows": self._take((count, plan.num_views, col.NUM_COLUMNS), torch.float32),
                    "sources": self._take((count, plan.num_views, 2), torch.int64),
                    "slots": self._take((count, plan.num_views), torch.int32),
                    "blurred": self._take((count * plan.num_views,), torch.int32),
                }
                for _ in range(plan.num_passes)
            ]
            for plan in tensors
        ]
        sizes = 3 * boxes[:, :, HEIGHT] * boxes[:, :, WIDTH]
        self.starts = (np.cumsum(sizes.reshape(-1)).reshape(sizes.shape) - sizes).astype(np.int64)
        """(N, levels): where the pixels of each box begin, from the first pixel on."""
        self.pixels = self._take((int(sizes.sum()),), torch.uint8)
        self.num_bytes = self._end

    def _take(self, shape: tuple[int, ...], dtype: torch.dtype) -> Section:
        section = Section(self._end, shape, dtype)
        self._end = -(-section.stop // ALIGNMENT) * ALIGNMENT
        return section


@dataclass(frozen=True)
class Dataset:
    """The decoded images of a whole data set on a GPU.

    Parameters
    ----------
    pixels
        uint8, one image after the other, on the device.
    offsets
        (num_samples,) int64 offset of each image in `pixels`, -1 for those that are not there.
    sizes
        (num_samples, 2) int64 heights and widths.
    """

    pixels: torch.Tensor
    offsets: np.ndarray
    sizes: np.ndarray

    @property
    def num_bytes(self) -> int:
        """Bytes on the device."""
        return len(self.pixels)

    def origins(self, sample_ids: np.ndarray) -> np.ndarray:
        """Return (N, 1, 2): offset of the first pixel of each image, and bytes per row."""
        offsets = np.maximum(
            self.offsets[sample_ids], 0
        )  # that of a sample that is skipped does not matter
        return np.stack((offsets, 3 * self.sizes[sample_ids, 1]), axis=-1)[:, None]


class GpuBatch:
    """The images of one field of a batch, on their way to the GPU that renders their views.

    Parameters
    ----------
    device
        The GPU.
    plan
        What to render.
    parameters
        Of the batch.
    dataset
        None, or the images on the device, which then need not be copied.
    """

    def __init__(
        self, device: Device, plan: ImagePlan, parameters: BatchParameters, dataset: Dataset | None
    ):
        self.parameters = parameters
        self._device, self._plan, self._dataset = device, plan, dataset
        self._boxes = (
            parameters.boxes.copy()
        )  # those that there is room for: a substitute may need more
        if dataset is not None:
            self._boxes[:, :, HEIGHT] = 0
        self._layout = Layout(plan.tensors, self._boxes)
        self._host = device.pinned(self._layout.num_bytes)
        self._pixels = self._layout.pixels.of(self._host).numpy()
        self._late: dict[int, list[np.ndarray]] = {}  # boxes of substitutes, per position
        self._copies: list[PendingCopy] = []
        self._renders: list[list[RenderPlan]] = []

    @property
    def num_bytes(self) -> int:
        """Bytes that are copied."""
        return self._layout.num_bytes

    def has_room(self, start: int, count: int) -> bool:
        """Whether the boxes at `count` positions from `start` on are those that memory was taken for."""
        here = slice(start, start + count)
        return np.array_equal(self.parameters.boxes[here], self._boxes[here])

    def destination(self, start: int, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the boxes at some positions, where their pixels begin, and the memory of all pixels."""
        here = slice(start, start + count)
        return self.parameters.boxes[here], self._layout.starts[here], self._pixels

    def add_late(self, position: int, boxes: list[np.ndarray]) -> None:
        """Add the pixels of a substitute that has no room in the batch's memory."""
        self._late[position] = boxes

    def forget_late(self, start: int, count: int) -> None:
        """Forget substitutes that were tried before at some positions."""
        for position in range(start, start + count):
            self._late.pop(position, None)

    def seal(self) -> None:
        """End the writing: fill in the views' part of the memory, and start the copy."""
        origins = self._origins()
        for plan, passes, rows in zip(
            self._plan.tensors, self._layout.views, self.parameters.rows, strict=True
        ):
            renders = []
            for index, sections in enumerate(passes):
                render = plan_render(np.ascontiguousarray(rows[:, :, index]), plan.size)
                self._check(render)
                sources = (
                    self._sources(rows[:, :, 0], origins)
                    if index == 0
                    else _view_sources(plan, len(rows))
                )
                arrays = {
                    "rows": rows[:, :, index],
                    "sources": sources,
                    "slots": render.slots,
                    "blurred": render.blurred,
                }
                for name, values in arrays.items():
                    target = sections[name].of(self._host).numpy().reshape(-1)
                    target[: values.size] = values.reshape(-1)
                renders.append(render)
            self._renders.append(renders)
        late = [box.reshape(-1) for boxes in self._late.values() for box in boxes]
        self._copies = [self._device.copy_async(self._host)]
        if late:
            self._copies.append(self._device.copy_async(torch.from_numpy(np.concatenate(late))))
        del self._host, self._pixels  # the rest is up to torch, which knows about copies in flight

    def _check(self, render: RenderPlan) -> None:
        if shared_bytes(render) > SHARED_BYTES:
            raise PipelineError(
                f"field {self._plan.field!r}: a view of {render.size} shrinks its crop too much, or its blur is too wide, for the GPU "
                f"({render.taps} source positions, radius {render.radius}); put ToDevice behind the transforms."
            )

    def _origins(self) -> np.ndarray:
        """Return (N, levels, 2): where pixel (0, 0) of the image of each box would lie, from the first pixel on, and bytes per row."""
        if self._dataset is not None:
            return self._dataset.origins(self.parameters.sample_ids)
        boxes, starts = self.parameters.boxes, self._layout.starts.copy()
        late = self._layout.pixels.shape[0]
        for position, parts in self._late.items():
            for level, part in enumerate(parts):
                starts[position, level] = late
                late += part.size
        stride = 3 * boxes[:, :, WIDTH]
        return np.stack(
            (starts - boxes[:, :, TOP] * stride - 3 * boxes[:, :, LEFT], stride), axis=-1
        )

    def _sources(self, rows: np.ndarray, origins: np.ndarray) -> np.ndarray:
        """Return (N, V, 2): the origin of the box that each view reads."""
        levels = np.searchsorted(DENOMINATORS[: origins.shape[1]], rows[..., col.DENOMINATOR])
        return np.take_along_axis(origins, levels[..., None], axis=1)

    def tensors(self) -> list[torch.Tensor]:
        """Render on the device's current stream; called by the thread that takes the batch."""
        arrived = [self._device.wait_for_copy(copy) for copy in self._copies]
        if self._dataset is not None:
            pixels = self._dataset.pixels
            self._device.use(pixels)
        else:
            pixels = self._layout.pixels.of(arrived[0])
        if len(arrived) > 1:
            pixels = torch.cat((pixels, arrived[1]))
        views = []
        for plan, passes, renders in zip(
            self._plan.tensors, self._layout.views, self._renders, strict=True
        ):
            source = pixels
            for index, (sections, render) in enumerate(zip(passes, renders, strict=True)):
                inputs = {name: section.of(arrived[0]) for name, section in sections.items()}
                source = self._render(
                    plan, render, source, inputs, last=index == plan.num_passes - 1
                )
            views.append(source.view(plan.dtype).view(plan.shape(len(self._boxes))))
        return views

    def _render(
        self, plan: TensorPlan, render: RenderPlan, pixels: torch.Tensor, inputs: dict, last: bool
    ) -> torch.Tensor:
        """Run one pass; passes before the last give bytes, channels last."""
        table = self._device.table(plan.lut if last else IDENTITY_LUT)
        out = self._device.empty((math.prod(plan.shape(len(self._boxes))),), table.dtype)
        sharp = (
            self._device.empty((max(len(render.blurred), 1), 3, *plan.size), torch.float32)
            if not render.in_shared
            else None
        )
        totals = (
            self._device.zeros(inputs["slots"].shape, torch.int32) if not render.in_shared else None
        )
        work = totals, inputs["slots"], inputs["blurred"], sharp
        self._device.launch(
            render,
            (pixels, inputs["sources"], inputs["rows"], table),
            work,
            plan.channels_last if last else True,
            out,
        )
        return out


def _view_sources(plan: TensorPlan, count: int) -> np.ndarray:
    """Return (N, V, 2): where the views that the pass before rendered lie, bytes with channels last."""
    height, width = plan.size
    numbers = np.arange(count * plan.num_views, dtype=np.int64).reshape(count, plan.num_views)
    return np.stack((numbers * 3 * height * width, np.full_like(numbers, 3 * width)), axis=-1)
