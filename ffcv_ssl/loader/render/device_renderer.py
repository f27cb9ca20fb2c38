"""Who decodes the images of a field for the GPU that renders them, batch by batch or once for all."""

import functools
import logging
import math

import numpy as np
import torch

from ffcv_ssl.beton.reader import BetonReader
from ffcv_ssl.errors import PipelineError, SampleError
from ffcv_ssl.loader.engine.buffers import BufferPool
from ffcv_ssl.loader.engine.threads import Engine
from ffcv_ssl.loader.render.boxes import DENOMINATOR
from ffcv_ssl.loader.render.cache import ImageCache
from ffcv_ssl.loader.render.chunk import DONE, load_chunk
from ffcv_ssl.loader.render.device import Device
from ffcv_ssl.loader.render.host_views import BatchMemory
from ffcv_ssl.loader.render.images import NOT_FAST, Drawing, ImageRenderer
from ffcv_ssl.loader.render.packed import PackedImages
from ffcv_ssl.pipeline.plan import ImagePlan

logger = logging.getLogger("ffcv_ssl")
BLOCK_BYTES = 1 << 26  # of decoded images that travel at once, before the first batch
PREPARED_IMAGES = 32  # per job of a thread, before the first batch


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
        with self._memory_for(sample_ids):
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
                raise self._error(number, NOT_FAST)
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
