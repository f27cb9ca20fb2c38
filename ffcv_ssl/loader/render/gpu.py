"""Decode the images of one field for the GPU that renders their views, batch by batch or once for all."""

import functools
import logging
import math

import numpy as np
import torch

from ffcv_ssl.errors import PipelineError, SampleError
from ffcv_ssl.loader.engine.buffers import BufferPool
from ffcv_ssl.loader.engine.threads import Engine
from ffcv_ssl.loader.render.boxes import HEIGHT, WIDTH, whole_box
from ffcv_ssl.loader.render.decode import ImageDecoder
from ffcv_ssl.loader.render.gpu_batch import Dataset, GpuBatch
from ffcv_ssl.loader.render.gpu_device import Device
from ffcv_ssl.loader.render.parameters import BatchParameters, draw_parameters
from ffcv_ssl.pipeline.plan import ImagePlan

logger = logging.getLogger("ffcv_ssl")
BLOCK_BYTES = 1 << 26  # of decoded images that are copied at once, before the first batch
PREPARED_IMAGES = 32  # per job of a thread, before the first batch


class GpuRenderer:
    """Decodes the images of one field on the CPU and renders their views on a GPU.

    Parameters
    ----------
    decoder
        Of the field.
    plan
        What to render.
    device
        The GPU.
    offsets
        (num_samples,) int64, for cache="device": offset of each image in the dataset on the GPU, -1 for
        those that are not kept there. None: each batch brings its images.

    Raises
    ------
    PipelineError
        If whole images are to be kept and the decoder's mode is "fast".
    """

    def __init__(
        self, decoder: ImageDecoder, plan: ImagePlan, device: Device, offsets: np.ndarray | None
    ):
        self.decoder, self.plan, self.device = decoder, plan, device
        self.offsets = offsets
        self.dataset: Dataset | None = None
        self._has_logged = False
        if offsets is not None and decoder.mode == "fast":
            raise PipelineError(
                f"{decoder.reader.path}: cache='device' keeps whole images, and decode='fast' makes others; use decode='exact'."
            )

    @property
    def num_pixels(self) -> int:
        """Work per sample, in pixels of views: a decode is as much work as a view of its size."""
        return 0 if self.offsets is not None else int(self.decoder.sizes.prod(axis=1).mean())

    @property
    def output_device(self) -> torch.device:
        """Device of the finished views, by its number if that is the one that renders."""
        device = self.plan.outputs[0].device
        return self.device.device if device == self.plan.render_device else device

    def draw(
        self, seed: int, epoch: int, sample_ids: np.ndarray, occurrences: np.ndarray | None = None
    ) -> BatchParameters:
        """Draw the parameters of some samples; `occurrences` as in `Keys`."""
        sizes, modes = self.decoder.sizes[sample_ids], self.decoder.modes[sample_ids]
        return draw_parameters(
            self.plan, self.decoder.mode, sizes, modes, seed, epoch, sample_ids, occurrences
        )

    def allocate(self, parameters: BatchParameters, pool: BufferPool) -> GpuBatch:
        """Take pinned memory for the images of a batch."""
        batch = GpuBatch(self.device, self.plan, parameters, self.dataset)
        if not self._has_logged:
            self._has_logged = True
            count = len(parameters.sample_ids)
            views = sum(
                math.prod(tensor.shape(count)) * tensor.dtype.itemsize
                for tensor in self.plan.tensors
            )
            logger.info(
                "%s: %s renders. A batch takes %.1f MB of images and %.1f MB of views; the dataset takes %.3f GB.",
                self.decoder.where, self.device.device, batch.num_bytes / 1e6, views / 1e6,
                0 if self.dataset is None else self.dataset.num_bytes / 1e9,
            )  # fmt: skip
        return batch

    def fill(self, batch: GpuBatch, sample_ids: np.ndarray, start: int) -> None:
        """Decode samples (n,) for positions of the batch from `start` on, as a job of a thread.

        Raises SampleError if a sample cannot be read or decoded.
        """
        if self.dataset is not None:
            self._check_prepared(self.dataset, sample_ids)
        elif batch.has_room(start, len(sample_ids)):
            batch.forget_late(start, len(sample_ids))
            boxes, starts, pixels = batch.destination(start, len(sample_ids))
            self.decoder.decode_boxes(sample_ids, boxes, starts, pixels)
        else:
            for position, sample_id in enumerate(
                sample_ids, start
            ):  # a substitute, alone: it may need more room than its sample
                boxes = batch.parameters.boxes[position : position + 1]
                sizes = 3 * boxes[0, :, HEIGHT] * boxes[0, :, WIDTH]
                starts, pixels = np.cumsum(sizes) - sizes, np.empty(int(sizes.sum()), np.uint8)
                self.decoder.decode_boxes(np.array([sample_id]), boxes, starts[None], pixels)
                batch.add_late(
                    position,
                    [
                        pixels[first : first + size]
                        for first, size in zip(starts, sizes, strict=True)
                    ],
                )

    def prepare(self, engine: Engine) -> None:
        """Copy all decoded images to the device, if they are to be kept there and are not yet.

        A damaged image is left out: its batch will meet it, and do what `on_error` says.
        """
        if self.offsets is None or self.dataset is not None:
            return
        ids = np.flatnonzero(self.offsets >= 0)
        if len(ids) == 0:
            return
        ids = ids[np.argsort(self.offsets[ids])]
        sizes = 3 * self.decoder.sizes[ids].prod(axis=1)
        pixels = self.device.empty((int(sizes.sum()),), torch.uint8)
        blocks = np.flatnonzero(np.diff((self.offsets[ids] // BLOCK_BYTES), prepend=-1))
        for first, stop in zip(blocks, [*blocks[1:], len(ids)], strict=True):
            start, num_bytes = int(self.offsets[ids[first]]), int(sizes[first:stop].sum())
            host = self.device.pinned(num_bytes)
            self._decode_all(engine, ids[first:stop], start, host.numpy())
            pixels[start : start + num_bytes] = self.device.wait_for_copy(
                self.device.copy_async(host)
            )
        self.device.synchronize()
        self.dataset = Dataset(pixels, self.offsets, self.decoder.sizes)

    def _decode_all(self, engine: Engine, ids: np.ndarray, start: int, packed: np.ndarray) -> None:
        """Decode whole images, in the threads, into `packed`, which holds the bytes of the dataset from `start` on."""
        offsets = self.offsets
        assert offsets is not None

        def decode(sample_ids: np.ndarray) -> None:
            for sample_id in sample_ids:
                box = whole_box(self.decoder.sizes[sample_id])
                try:
                    self.decoder.decode_boxes(
                        np.array([sample_id]),
                        box[None, None],
                        np.array([[offsets[sample_id] - start]]),
                        packed,
                    )
                except SampleError:
                    offsets[sample_id] = -1

        engine.run(
            [
                functools.partial(decode, part)
                for part in np.array_split(ids, -(-len(ids) // PREPARED_IMAGES))
            ]
        )

    def _check_prepared(self, dataset: Dataset, sample_ids: np.ndarray) -> None:
        """Raise SampleError if one of the samples is not on the device, where all good ones are."""
        for sample_id in sample_ids[dataset.offsets[sample_ids] < 0]:
            self.decoder.decode(int(sample_id), whole_box(self.decoder.sizes[sample_id]))
            raise self.decoder.error(
                int(sample_id),
                "failed to decode while the dataset was copied to the GPU, but decodes now; make the loader again.",
            )
