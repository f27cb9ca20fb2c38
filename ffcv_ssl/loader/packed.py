"""Images for the GPU that renders them: decoded into one pinned buffer per batch, copied at once, ahead of use.

The buffer begins with what the kernels need to know of every view (rows, sources, who is blurred) and goes on with the pixels: of each
image the box that its views read, as in `loader.boxes`.
"""

import functools
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ffcv_ssl.beton.reader import BetonReader
from ffcv_ssl.errors import PipelineError, SampleError
from ffcv_ssl.kernels import rows as col
from ffcv_ssl.kernels.cuda.launch import SHARED_BYTES, RenderPlan, plan_render, shared_bytes
from ffcv_ssl.loader.boxes import DENOMINATOR, DENOMINATORS, HEIGHT, LEFT, TOP, WIDTH
from ffcv_ssl.loader.buffers import BufferPool
from ffcv_ssl.loader.chunk import DONE, load_chunk
from ffcv_ssl.loader.device import Device, Shipment
from ffcv_ssl.loader.engine import Engine
from ffcv_ssl.loader.images import IDENTITY_LUT, BatchMemory, Drawing, ImageRenderer
from ffcv_ssl.loader.placement import ImageCache
from ffcv_ssl.pipeline.plan import ImagePlan, TensorPlan

logger = logging.getLogger("ffcv_ssl")
ALIGNMENT = 16  # bytes
BLOCK_BYTES = 1 << 26  # of decoded images that travel at once, before the first batch
PREPARED_IMAGES = 32  # per job of a thread, before the first batch


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


class PackedImages:
    """The images of one field of a batch, on their way from the threads to the device; what `HostViews` is for views made by the CPU."""

    def __init__(self, renderer: "DeviceRenderer", drawing: Drawing):
        self._renderer, self._device, self._plan, self._drawing = renderer, renderer.device, renderer.plan, drawing
        self._boxes = drawing.boxes.copy()  # those that there is room for: a substitute may need more
        if renderer.dataset is not None:
            self._boxes[:, :, HEIGHT] = 0
        self._layout = Layout(renderer.plan.tensors, self._boxes)
        self._host = renderer.device.pinned(self._layout.num_bytes)
        self._pixels = self._layout.pixels.of(self._host).numpy()
        self._late: dict[int, list[np.ndarray]] = {}  # boxes of substitutes, per position
        self._shipments: list[Shipment] = []
        self._renders: list[list[RenderPlan]] = []

    @property
    def num_bytes(self) -> int:
        """Bytes that travel."""
        return self._layout.num_bytes

    def fill(self, sample_ids: np.ndarray, start: int) -> None:
        """Decode some samples; the views are rendered when the batch is taken."""
        renderer, stop = self._renderer, start + len(sample_ids)
        boxes = self._drawing.boxes[start:stop]
        if renderer.dataset is not None:
            renderer.check_prepared(sample_ids)
        elif np.array_equal(boxes, self._boxes[start:stop]):
            for position in range(start, stop):
                self._late.pop(position, None)  # of a substitute before this one
            renderer.load(sample_ids, boxes, self._layout.starts[start:stop], self._pixels)
        else:
            for position, sample_id in enumerate(sample_ids, start):  # a substitute, alone: it may not fit where the sample was to lie
                box = self._drawing.boxes[position : position + 1]
                sizes = 3 * box[0, :, HEIGHT] * box[0, :, WIDTH]
                starts, packed = np.cumsum(sizes) - sizes, np.empty(int(sizes.sum()), np.uint8)
                renderer.load(np.array([sample_id]), box, starts[None], packed)
                self._late[position] = [packed[first : first + size] for first, size in zip(starts, sizes, strict=True)]

    def ready(self) -> None:
        """All images are there: fill in the views' part of the buffer, and send it on its way."""
        origins = self._origins()
        for plan, passes, rows in zip(self._plan.tensors, self._layout.views, self._drawing.rows, strict=True):
            renders = []
            for index, sections in enumerate(passes):
                render = plan_render(np.ascontiguousarray(rows[:, :, index]), plan.size)
                self._check(render)
                sources = self._sources(rows[:, :, 0], origins) if index == 0 else _view_sources(plan, len(rows))
                arrays = {"rows": rows[:, :, index], "sources": sources, "slots": render.slots, "blurred": render.blurred}
                for name, values in arrays.items():
                    target = sections[name].of(self._host).numpy().reshape(-1)
                    target[: values.size] = values.reshape(-1)
                renders.append(render)
            self._renders.append(renders)
        late = [box.reshape(-1) for boxes in self._late.values() for box in boxes]
        self._shipments = [self._device.ship(self._host)]
        if late:
            self._shipments.append(self._device.ship(torch.from_numpy(np.concatenate(late))))
        del self._host, self._pixels  # the rest is up to torch, which knows about copies in flight

    def _check(self, render: RenderPlan) -> None:
        if shared_bytes(render) > SHARED_BYTES:
            raise PipelineError(
                f"field {self._plan.field!r}: a view of {render.size} shrinks its crop too much, or its blur is too wide, for the GPU "
                f"({render.taps} source positions, radius {render.radius}); put ToDevice behind the transforms."
            )

    def _origins(self) -> np.ndarray:
        """Return (N, levels, 2): where pixel (0, 0) of the image of each box would lie, from the first pixel on, and bytes per row."""
        if self._renderer.dataset is not None:
            ids = self._drawing.sample_ids
            places = np.maximum(self._renderer.device_places[ids], 0)  # that of a sample that is skipped does not matter
            return np.stack((places, 3 * self._renderer.sizes[ids, 1]), axis=-1)[:, None]
        boxes, starts = self._drawing.boxes, self._layout.starts.copy()
        late = self._layout.pixels.shape[0]
        for position, parts in self._late.items():
            for level, part in enumerate(parts):
                starts[position, level] = late
                late += part.size
        stride = 3 * boxes[:, :, WIDTH]
        return np.stack((starts - boxes[:, :, TOP] * stride - 3 * boxes[:, :, LEFT], stride), axis=-1)

    def _sources(self, rows: np.ndarray, origins: np.ndarray) -> np.ndarray:
        """Return (N, V, 2): the origin of the box that each view reads."""
        levels = np.searchsorted(DENOMINATORS[: origins.shape[1]], rows[..., col.DENOMINATOR])
        return np.take_along_axis(origins, levels[..., None], axis=1)

    def tensors(self) -> list[torch.Tensor]:
        """Render on the device's current stream; called by the thread that takes the batch."""
        arrived = [self._device.receive(shipment) for shipment in self._shipments]
        if self._renderer.dataset is not None:
            self._device.use(self._renderer.dataset)
        pixels = self._renderer.dataset if self._renderer.dataset is not None else self._layout.pixels.of(arrived[0])
        if len(arrived) > 1:
            pixels = torch.cat((pixels, arrived[1]))
        views = []
        for plan, passes, renders in zip(self._plan.tensors, self._layout.views, self._renders, strict=True):
            source = pixels
            for index, (sections, render) in enumerate(zip(passes, renders, strict=True)):
                inputs = {name: section.of(arrived[0]) for name, section in sections.items()}
                source = self._render(plan, render, source, inputs, last=index == plan.num_passes - 1)
            views.append(source.view(plan.dtype).view(plan.shape(len(self._boxes))))
        return views

    def _render(self, plan: TensorPlan, render: RenderPlan, pixels: torch.Tensor, inputs: dict, last: bool) -> torch.Tensor:
        """Run one pass; passes before the last give bytes, channels last."""
        table = self._device.table(plan.lut if last else IDENTITY_LUT)
        out = self._device.empty((math.prod(plan.shape(len(self._boxes))),), table.dtype)
        sharp = self._device.empty((max(len(render.blurred), 1), 3, *plan.size), torch.float32) if not render.in_shared else None
        totals = self._device.zeros(inputs["slots"].shape, torch.int32) if not render.in_shared else None
        work = totals, inputs["slots"], inputs["blurred"], sharp
        self._device.launch(render, (pixels, inputs["sources"], inputs["rows"], table), work, plan.channels_last if last else True, out)
        return out


def _view_sources(plan: TensorPlan, count: int) -> np.ndarray:
    """Return (N, V, 2): where the views that the pass before rendered lie, bytes with channels last."""
    height, width = plan.size
    numbers = np.arange(count * plan.num_views, dtype=np.int64).reshape(count, plan.num_views)
    return np.stack((numbers * 3 * height * width, np.full_like(numbers, 3 * width)), axis=-1)


class DeviceRenderer(ImageRenderer):
    """Decodes the images of one field for the GPU that renders their views; same arguments as `ImageRenderer`."""

    def __init__(self, reader: BetonReader, plan: ImagePlan, cache: ImageCache, decode: str, device: Device):
        super().__init__(reader, plan, cache, decode)
        self.device, self._is_kept = device, cache.device_places is not None
        self.device_places = np.full(len(self.sizes), -1, np.int64) if cache.device_places is None else cache.device_places
        """(num_samples,) offset of each image in `dataset`, -1 for those that are not there."""
        self.dataset: torch.Tensor | None = None  # all decoded images, under cache="device"
        self._told = False
        if self._is_kept and decode == "fast":
            raise PipelineError(f"{reader.path}: cache='device' keeps whole images, and decode='fast' makes others; use decode='exact'.")

    def prepare(self, engine: Engine) -> None:
        """Decode all images onto the device, if they are to lie there and do not yet.

        A damaged image is left out: its batch will meet it, and do what `on_error` says.
        """
        if not self._is_kept or self.dataset is not None:
            return
        ids = np.flatnonzero(self.device_places >= 0)
        if len(ids) == 0:
            return
        ids = ids[np.argsort(self.device_places[ids])]
        sizes = 3 * self.sizes[ids].prod(axis=1)
        dataset = self.device.empty((int(sizes.sum()),), torch.uint8)
        blocks = np.flatnonzero(np.diff((self.device_places[ids] // BLOCK_BYTES), prepend=-1))
        for first, stop in zip(blocks, [*blocks[1:], len(ids)], strict=True):
            start, num_bytes = int(self.device_places[ids[first]]), int(sizes[first:stop].sum())
            host = self.device.pinned(num_bytes)
            self._decode_all(engine, ids[first:stop], start, host.numpy())
            dataset[start : start + num_bytes] = self.device.receive(self.device.ship(host))
        self.device.settle()
        self.dataset = dataset

    def _decode_all(self, engine: Engine, ids: np.ndarray, start: int, packed: np.ndarray) -> None:
        """Decode whole images, in the threads, into `packed`, which holds the bytes of the dataset from `start` on."""

        def decode(sample_ids: np.ndarray) -> None:
            for sample_id in sample_ids:
                place, (height, width) = self.device_places[sample_id] - start, self.sizes[sample_id]
                whole = np.array([[0, 0, height, width, 1]])
                try:
                    self.load(np.array([sample_id]), whole[None], np.array([[place]]), packed)
                except SampleError:
                    self.device_places[sample_id] = -1

        engine.run([functools.partial(decode, part) for part in np.array_split(ids, -(-len(ids) // PREPARED_IMAGES))])

    def take(self, drawing: Drawing, pool: BufferPool) -> BatchMemory:
        """Take pinned memory for the images of a batch."""
        memory = PackedImages(self, drawing)
        if not self._told:
            self._told = True
            views = sum(math.prod(tensor.shape(len(drawing.sample_ids))) * tensor.dtype.itemsize for tensor in self.plan.tensors)
            logger.info(
                "%s: field %r: %s renders. A batch takes %.1f MB of images and %.1f MB of views; the dataset takes %.3f GB.",
                self.reader.path, self.plan.field, self.device.device, memory.num_bytes / 1e6, views / 1e6, self.num_bytes / 1e9,
            )  # fmt: skip
        return memory

    @property
    def num_bytes(self) -> int:
        """Bytes of the dataset that lie on the device."""
        return 0 if self.dataset is None else len(self.dataset)

    def check_prepared(self, sample_ids: np.ndarray) -> None:
        """Raise SampleError if one of the samples is not on the device, where all good ones are."""
        for sample_id in sample_ids[self.device_places[sample_ids] < 0]:
            self._image(int(sample_id), np.array([0, 0, *self.sizes[sample_id]]))
            raise self._error(int(sample_id), "could not be decoded when all images were, for a reason that is gone by now.")

    def load(self, sample_ids: np.ndarray, boxes: np.ndarray, starts: np.ndarray, packed: np.ndarray) -> None:
        """Decode the boxes (n, levels, 5) of some samples into `packed`, from the bytes `starts` (n, levels) on."""
        failed = np.arange(len(sample_ids))
        if self._is_compiled(sample_ids):
            failed = np.flatnonzero(self._load_chunk(sample_ids, boxes, starts, packed) != DONE)
        for index in failed:  # without compiled code all of them; with it, those of which it is to be found out why
            self._load_one(sample_ids[index : index + 1], boxes[index : index + 1], starts[index : index + 1], packed)

    def _load_chunk(self, sample_ids: np.ndarray, boxes: np.ndarray, starts: np.ndarray, packed: np.ndarray) -> np.ndarray:
        """Decode in compiled code; return the status of each sample."""
        statuses = np.empty(len(sample_ids), np.uint8)
        workspace = self._workspace(self.sizes[sample_ids], int(self.images.num_bytes[sample_ids].max()))
        load_chunk(self.images, workspace, sample_ids, boxes, starts, packed, statuses)
        return statuses

    def _load_one(self, sample_id: np.ndarray, boxes: np.ndarray, starts: np.ndarray, packed: np.ndarray) -> None:
        """Decode the boxes of one sample with the decoder ladder, or say why that cannot be."""
        number = int(sample_id[0])
        if self.decode == "fast":  # which the native decoder alone can do
            self._image(number, np.array([0, 0, *self.sizes[number]]))  # raises if the image is damaged
            if self._load_chunk(sample_id, boxes, starts, packed)[0] != DONE:
                raise self._error(number, "could not be decoded, for a reason that only shows now and then.")
            return
        top, left, height, width = boxes[0, 0, :DENOMINATOR]
        image = self._image(number, boxes[0, 0])
        packed[starts[0, 0] : starts[0, 0] + 3 * height * width] = image[top : top + height, left : left + width].reshape(-1)

    @property
    def num_pixels(self) -> int:
        """What the threads have to do per sample, in pixels of views: a decode is as much work as a view of its size."""
        return 0 if self._is_kept else int(self.sizes.prod(axis=1).mean())

    @property
    def output_device(self) -> torch.device:
        """Device of the finished views, by its number if that is the one that renders."""
        device = super().output_device
        return self.device.device if device == self.plan.render_device else device
