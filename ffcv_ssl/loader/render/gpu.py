"""Renderer of the views of one image field on a GPU; the CPU decodes the images.

The images are copied to the GPU with each batch, or all of them before the first batch.
"""

import functools
import logging
import math

import numpy as np
import torch
from numpy.typing import NDArray

from ffcv_ssl.errors import PipelineError, SampleError
from ffcv_ssl.loader.engine.buffers import BufferPool
from ffcv_ssl.loader.engine.threads import Engine
from ffcv_ssl.loader.render.boxes import HEIGHT, WIDTH, whole_box
from ffcv_ssl.loader.render.decode import ImageDecoder
from ffcv_ssl.loader.render.gpu_batch import GpuBatch
from ffcv_ssl.loader.render.gpu_device import Device
from ffcv_ssl.loader.render.gpu_memory import DeviceImages
from ffcv_ssl.loader.render.parameters import BatchParameters, draw_parameters
from ffcv_ssl.pipeline.plan import ImagePlan

logger = logging.getLogger("ffcv_ssl")

BLOCK_BYTES = 1 << 26  # of decoded images per copy, before the first batch
IMAGES_PER_JOB = 32  # of a thread, before the first batch


class GpuRenderer:
    """Decoder of one image field on the CPU, and renderer of its views on a GPU.

    Parameters
    ----------
    decoder
        Decoder of the field.
    plan
        Views of the field.
    device
        The GPU.
    offsets
        (num_samples,) int64, for cache="device": offset of each image in the memory of the GPU, -1
        for images that are not kept there. None: the images are copied with each batch.

    Attributes
    ----------
    device_images
        Images that are kept on the GPU; None before `prepare`, or if none are.

    Raises
    ------
    PipelineError
        If images are kept on the GPU and the decoder's mode is "fast".
    """

    def __init__(
        self,
        decoder: ImageDecoder,
        plan: ImagePlan,
        device: Device,
        offsets: NDArray[np.int64] | None,
    ):
        self.decoder, self.plan, self.device = decoder, plan, device
        self.offsets = offsets
        self.device_images: DeviceImages | None = None
        self._has_logged = False
        if offsets is not None and decoder.mode == "fast":
            raise PipelineError(
                f"{decoder.where}: cache='device' keeps whole images, but decode='fast' decodes "
                "parts of images; use decode='exact'."
            )

    @property
    def num_pixels(self) -> int:
        """Work of the threads per sample: a decode takes about as long as a view of its size."""
        return 0 if self.offsets is not None else int(self.decoder.sizes.prod(axis=1).mean())

    @property
    def output_device(self) -> torch.device:
        """Device of the finished views, with its index if it is the device that renders."""
        device = self.plan.outputs[0].device
        return self.device.device if device == self.plan.render_device else device

    def draw(
        self,
        seed: int,
        epoch: int,
        sample_ids: NDArray[np.int64],
        occurrences: NDArray[np.int64] | None = None,
    ) -> BatchParameters:
        """Draw the parameters of some samples; arguments as in `Keys`."""
        sizes, modes = self.decoder.sizes[sample_ids], self.decoder.modes[sample_ids]
        return draw_parameters(
            self.plan, self.decoder.mode, sizes, modes, seed, epoch, sample_ids, occurrences
        )

    def allocate(self, parameters: BatchParameters, pool: BufferPool) -> GpuBatch:
        """Allocate pinned memory for the images of a batch with these parameters."""
        batch = GpuBatch(self.device, self.plan, parameters, self.device_images)
        if not self._has_logged:
            self._has_logged = True
            self._log_memory(batch, len(parameters.sample_ids))
        return batch

    def _log_memory(self, batch: GpuBatch, count: int) -> None:
        """Log the memory that a batch of `count` samples needs."""
        view_bytes = sum(
            math.prod(tensor.shape(count)) * tensor.dtype.itemsize for tensor in self.plan.tensors
        )
        dataset_bytes = 0 if self.device_images is None else self.device_images.num_bytes
        logger.info(
            "%s: %s renders the views. A batch takes %.1f MB of images and %.1f MB of views; "
            "the dataset takes %.3f GB.",
            self.decoder.where,
            self.device.device,
            batch.num_bytes / 1e6,
            view_bytes / 1e6,
            dataset_bytes / 1e9,
        )

    def fill(self, batch: GpuBatch, sample_ids: NDArray[np.int64], start: int) -> None:
        """Decode samples for a batch.

        Parameters
        ----------
        batch
            Return value of `allocate`.
        sample_ids
            (n,) int64.
        start
            Position of the first sample in the batch.

        Raises
        ------
        SampleError
            If a sample cannot be read or decoded.
        """
        if self.device_images is not None:
            self._check_on_device(self.device_images, sample_ids)
        elif batch.fits(start, len(sample_ids)):
            batch.discard_overflow(start, len(sample_ids))
            boxes, starts, pixels = batch.destination(start, len(sample_ids))
            self.decoder.decode_boxes(sample_ids, boxes, starts, pixels)
        else:  # a substitute, which may need more memory than the sample that it replaces
            for position, sample_id in enumerate(sample_ids, start):
                boxes = batch.parameters.boxes[position : position + 1]
                sizes = 3 * boxes[0, :, HEIGHT] * boxes[0, :, WIDTH]
                starts, pixels = np.cumsum(sizes) - sizes, np.empty(int(sizes.sum()), np.uint8)
                self.decoder.decode_boxes(np.array([sample_id]), boxes, starts[None], pixels)
                parts = [
                    pixels[first : first + size] for first, size in zip(starts, sizes, strict=True)
                ]
                batch.add_overflow(position, parts)

    def prepare(self, engine: Engine) -> None:
        """Copy all decoded images to the GPU if they are to be kept there and were not copied yet.

        Damaged images are left out. A batch that contains one handles it as `on_error` says.

        Parameters
        ----------
        engine
            Worker threads, which decode the images.
        """
        if self.offsets is None or self.device_images is not None:
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
            self._decode_block(engine, ids[first:stop], start, host.numpy())
            copied = self.device.wait_for_copy(self.device.copy_async(host))
            pixels[start : start + num_bytes] = copied
        self.device.synchronize()
        self.device_images = DeviceImages(pixels, self.offsets, self.decoder.sizes)

    def _decode_block(
        self, engine: Engine, ids: NDArray[np.int64], start: int, packed: NDArray[np.uint8]
    ) -> None:
        """Decode whole images in the threads; `packed` begins at offset `start` of the GPU memory.

        The offset of a damaged image becomes -1.
        """
        offsets = self.offsets
        assert offsets is not None

        def decode(sample_ids: NDArray[np.int64]) -> None:
            for sample_id in sample_ids:
                boxes = whole_box(self.decoder.sizes[sample_id])[None, None]
                starts = np.array([[offsets[sample_id] - start]])
                try:
                    self.decoder.decode_boxes(np.array([sample_id]), boxes, starts, packed)
                except SampleError:
                    offsets[sample_id] = -1

        parts = np.array_split(ids, -(-len(ids) // IMAGES_PER_JOB))
        engine.run([functools.partial(decode, part) for part in parts])

    def _check_on_device(self, images: DeviceImages, sample_ids: NDArray[np.int64]) -> None:
        """Raise SampleError if one of the samples is damaged and therefore not on the GPU."""
        for sample_id in sample_ids[images.offsets[sample_ids] < 0].tolist():
            self.decoder.decode(sample_id, whole_box(self.decoder.sizes[sample_id]))
            raise self.decoder.error(
                sample_id,
                "failed to decode while the dataset was loaded to the GPU, but decodes now; "
                "recreate the loader.",
            )
