"""Where read, decode and render meet: all views of a chunk of samples, from one read and one decode each.

The compiled `loader.chunk` does all of it for raw and cached images, and for JPEGs where the native shim is there. Without the shim
JPEGs are decoded by the ladder, one by one; so is everything in a plan that mixes dtypes or has several passes.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from ffcv_ssl.beton.reader import BetonReader
from ffcv_ssl.codecs.decode import decode_box, decode_jpeg
from ffcv_ssl.codecs.jpeg import inspect_jpeg
from ffcv_ssl.codecs.limits import check_pixels
from ffcv_ssl.errors import FfcvSslError, ImageError, PipelineError, SampleError
from ffcv_ssl.fields.image import MODE_RAW
from ffcv_ssl.loader.engine.buffers import BufferPool
from ffcv_ssl.loader.engine.threads import Engine
from ffcv_ssl.loader.render.boxes import DENOMINATOR, plan_decode
from ffcv_ssl.loader.render.cache import ImageCache
from ffcv_ssl.loader.render.chunk import DONE, StoredImages, Workspace, render_chunk
from ffcv_ssl.loader.render.host_views import IDENTITY_LUT, BatchMemory, HostViews, render_tensor
from ffcv_ssl.loader.render.memory import ThreadMemory, crc32_address, native_decoder, pread_address
from ffcv_ssl.pipeline.plan import ImagePlan
from ffcv_ssl.pipeline.table import ParameterTable

NOT_FAST = "the image has stray bytes behind its last block, which decode='fast' cannot read; use decode='exact'."
HUGE_PIXELS = 1 << 24  # a JPEG of more is asked for its own size before there is memory for what the record says


@dataclass(frozen=True)
class Drawing:
    """All that is known about the views of some samples before a pixel is touched.

    Parameters
    ----------
    sample_ids
        (N,) int64.
    table
        Their parameters.
    rows
        Kernel rows per tensor, (N, V, passes, NUM_COLUMNS) float32.
    boxes
        (N, levels, 5) int64, what to decode of each image (`loader.boxes`).
    """

    sample_ids: np.ndarray
    table: ParameterTable
    rows: tuple[np.ndarray, ...]
    boxes: np.ndarray

    def replace(self, position: int, other: "Drawing") -> None:
        """Put the one sample of `other` in a position."""
        self.sample_ids[position] = other.sample_ids[0]
        self.table.values[position] = other.table.values[0]
        self.boxes[position] = other.boxes[0]
        for mine, new in zip(self.rows, other.rows, strict=True):
            mine[position] = new[0]


class ImageRenderer:
    """Renders the views of one stored image field.

    Parameters
    ----------
    reader
        The open file.
    plan
        What to render.
    cache
        Where decoded images are kept.
    decode
        "exact", "full" or "fast" (`loader.boxes`).

    Raises
    ------
    PipelineError
        If `decode="fast"` cannot be done here.
    """

    def __init__(self, reader: BetonReader, plan: ImagePlan, cache: ImageCache, decode: str):
        records = reader.records[plan.field]
        self.reader, self.plan, self.decode = reader, plan, decode
        self.sizes = np.stack((records["height"], records["width"]), axis=1).astype(np.int64)
        pointers, num_bytes = (values.astype(np.int64) for values in reader.extents(plan.field))
        modes = np.array(records["mode"])  # a copy, writable: Numba compiles anew for arrays that are not
        checksums = reader.value_checksums(plan.field) if reader.check == "read" else None
        self._is_checked = checksums is not None
        self.images = StoredImages(
            descriptor=reader.fileno(),
            pread=pread_address(),
            decode=native_decoder(),
            crc32=crc32_address() if self._is_checked else 0,
            checksums=np.zeros(0, np.uint32) if checksums is None else np.array(checksums, np.uint32),
            modes=modes,
            sizes=self.sizes,
            pointers=pointers,
            num_bytes=num_bytes,
            cache=cache.memory,
            places=cache.places,
            cached=cache.cached,
        )
        self._is_huge = self.sizes.prod(axis=1) > HUGE_PIXELS
        tensors = plan.tensors
        self._is_uniform = len({tensor.lut.dtype for tensor in tensors}) == 1 and all(tensor.num_passes == 1 for tensor in tensors)
        self._formats = tuple((tensor.lut, np.array_equal(tensor.lut, IDENTITY_LUT), tensor.channels_last) for tensor in tensors)
        self._view_sizes = tuple(dict.fromkeys(tensor.size for tensor in tensors))
        # Later passes read finished views, so these count as sources too.
        self._smallest_source = tuple(max(size[axis] for size in self._view_sizes) for axis in (0, 1))
        self._memory = ThreadMemory(self.images.decode != 0)
        if decode == "fast":
            self._check_fast(cache)

    def _check_fast(self, cache: ImageCache) -> None:
        where = f"{self.reader.path}: field {self.plan.field!r}: decode='fast'"
        if not self.images.decode:
            raise PipelineError(f"{where} needs the native decoder, which is not built here; use decode='exact'.")
        if not self._is_uniform:
            raise PipelineError(f"{where} needs views of one dtype, with crops first and transforms in the kernel's order.")
        if len(cache.memory):
            raise PipelineError(f"{where} decodes parts of images, and cache='ram' keeps whole ones; use cache='os' or decode='exact'.")

    def draw(self, seed: int, epoch: int, sample_ids: np.ndarray, occurrences: np.ndarray | None = None) -> Drawing:
        """Draw the parameters of some samples, and plan what to decode; `occurrences`: see `Keys`."""
        sizes = self.sizes[sample_ids]
        table = self.plan.draw(seed, epoch, sample_ids, sizes, occurrences)
        rows = tuple(tensor.rows(table) for tensor in self.plan.tensors)
        firsts = [tensor_rows[:, :, 0] for tensor_rows in rows]
        view_sizes = [tensor.size for tensor in self.plan.tensors]
        return Drawing(sample_ids.copy(), table, rows, plan_decode(self.decode, firsts, view_sizes, sizes, self.images.modes[sample_ids]))

    @property
    def num_pixels(self) -> int:
        """What the threads have to do per sample: pixels of all views."""
        return sum(tensor.num_views * tensor.size[0] * tensor.size[1] for tensor in self.plan.tensors)

    @property
    def output_device(self) -> torch.device:
        """Device of the finished views."""
        return self.plan.outputs[0].device

    def prepare(self, engine: Engine) -> None:
        """Do what must be done before the first batch: nothing, here."""

    def take(self, drawing: Drawing, pool: BufferPool) -> BatchMemory:
        """Take memory for a batch."""
        return HostViews(self.plan, partial(self.render, drawing=drawing), len(drawing.sample_ids), pool)

    def render(self, sample_ids: np.ndarray, outs: Sequence[np.ndarray], start: int, drawing: Drawing) -> None:
        """Render samples into positions from `start` of the batch's memory.

        Parameters
        ----------
        sample_ids
            (n,) of this chunk.
        outs
            Memory of the whole batch per tensor (`TensorPlan.shape`).
        start
            Position of the chunk's first sample in the batch.
        drawing
            Of the whole batch.

        Raises
        ------
        SampleError
            If a sample cannot be read or decoded; it names file, sample and field.
        """
        with self._memory_for(sample_ids):
            if self._is_uniform and self._is_compiled(sample_ids):
                for index in np.flatnonzero(self._render_chunk(sample_ids, drawing, outs, start) != DONE):
                    self._retry(sample_ids[index : index + 1], drawing, outs, start + int(index))
                return
            for position, sample_id in enumerate(sample_ids, start):
                self._render_one(int(sample_id), drawing, outs, position)

    @contextmanager
    def _memory_for(self, sample_ids: np.ndarray) -> Iterator[None]:
        """Compare what the records of huge images claim with the images before there is memory for it.

        Raises SampleError if a claim is false or above the limit, or memory does not suffice in the block.
        """
        for sample_id in sample_ids[self._is_huge[sample_ids]]:
            self._check_claim(int(sample_id))
        try:
            yield
        except MemoryError as error:
            largest = int(sample_ids[self.sizes[sample_ids].prod(axis=1).argmax()])
            height, width = self.sizes[largest]
            raise self._error(largest, f"there is no memory for an image of {width} x {height} pixels.") from error

    def _check_claim(self, sample_id: int) -> None:
        """Check the size that a record gives."""
        height, width = (int(side) for side in self.sizes[sample_id])
        try:
            check_pixels(width, height)
            if self.images.modes[sample_id] == MODE_RAW:
                return  # the reader has compared it with the stored bytes
            info = inspect_jpeg(self._stored(sample_id))
            if (info.height, info.width) != (height, width):
                raise ImageError(f"JPEG of {info.width} x {info.height} pixels, its record says {width} x {height}.")
        except (FfcvSslError, OSError) as error:
            raise self._error(sample_id, str(error)) from error

    def _stored(self, sample_id: int) -> np.ndarray:
        """Read the stored bytes of a sample into memory of this thread, and compare them with their checksum."""
        size = int(self.images.num_bytes[sample_id])
        data = self._memory.bytes("file", size)[:size]
        self.reader.read_into(int(self.images.pointers[sample_id]), size, data)
        self.reader.check_value(sample_id, self.plan.field, data)
        return data

    def _is_compiled(self, sample_ids: np.ndarray) -> bool:
        """Whether `loader.chunk` can make every image of a chunk."""
        images = self.images
        if not images.pread or (self._is_checked and not images.crc32):
            return False
        return bool(images.decode or ((images.modes[sample_ids] == MODE_RAW) | (images.cached[sample_ids] != 0)).all())

    def _render_chunk(self, sample_ids: np.ndarray, drawing: Drawing, outs: Sequence[np.ndarray], start: int) -> np.ndarray:
        """Render a chunk in compiled code; return the status of each sample."""
        stop = start + len(sample_ids)
        sizes = self.sizes[sample_ids]
        workspace = self._workspace(sizes, int(self.images.num_bytes[sample_ids].max()))
        rows = tuple(tensor_rows[start:stop, :, 0] for tensor_rows in drawing.rows)
        statuses = np.empty(len(sample_ids), np.uint8)
        views = tuple(out[start:stop] for out in outs)
        render_chunk(self.images, workspace, sample_ids, drawing.boxes[start:stop], rows, self._formats, views, statuses)
        return statuses

    def _workspace(self, sizes: np.ndarray, num_bytes: int) -> Workspace:
        """Return memory for images of the given (n, 2) sizes and files of `num_bytes`."""
        height, width = np.maximum(sizes.max(axis=0), self._smallest_source)
        scratch = self._memory.scratch((int(height), int(width)), self._view_sizes)
        return self._memory.workspace(num_bytes, int(sizes.prod(axis=1).max()), scratch)

    def _retry(self, sample_id: np.ndarray, drawing: Drawing, outs: Sequence[np.ndarray], position: int) -> None:
        """Find out why compiled code could not make a sample, and raise it; where a read was interrupted, try again."""
        self._load(int(sample_id[0]), np.array([0, 0, *self.sizes[sample_id[0]]]), np.empty((*self.sizes[sample_id[0]], 3), np.uint8))
        if self._render_chunk(sample_id, drawing, outs, position)[0] == DONE:
            return
        if self.decode != "fast":
            self._render_one(int(sample_id[0]), drawing, outs, position)
        else:
            raise self._error(int(sample_id[0]), NOT_FAST)

    def _render_one(self, sample_id: int, drawing: Drawing, outs: Sequence[np.ndarray], position: int) -> None:
        """Render one sample with the decoder ladder."""
        image = self._image(sample_id, drawing.boxes[position, 0])
        scratch = self._workspace(self.sizes[sample_id][None], 0).scratch
        for tensor, rows, out in zip(self.plan.tensors, drawing.rows, outs, strict=True):
            here = slice(position, position + 1)
            render_tensor(image[None], tensor, rows[here], scratch, out[here])

    def _image(self, sample_id: int, box: np.ndarray) -> np.ndarray:
        """Return one image (H, W, 3), of which `box` is decoded at least, in memory of this thread or of the cache."""
        if self._is_huge[sample_id]:
            self._check_claim(sample_id)
        height, width = self.sizes[sample_id]
        place, size = self.images.places[sample_id], height * width * 3
        memory = self._memory.bytes("pixels", size)[:size] if place < 0 else self.images.cache[place : place + size]
        image = memory.reshape(height, width, 3)
        if not self.images.cached[sample_id]:
            self._load(sample_id, np.array([0, 0, height, width]) if place >= 0 else box[:DENOMINATOR], image)
            self.images.cached[sample_id] = place >= 0
        return image

    def _load(self, sample_id: int, box: np.ndarray, image: np.ndarray) -> None:
        """Read one stored image and decode a box of it into `image` (H, W, 3)."""
        try:
            if self.images.modes[sample_id] == MODE_RAW:
                self.reader.read_into(int(self.images.pointers[sample_id]), image.size, image.reshape(-1))
                self.reader.check_value(sample_id, self.plan.field, image.reshape(-1))
                return
            data = self._stored(sample_id)
            if tuple(box) == (0, 0, *image.shape[:2]):
                decode_jpeg(data, image)
            else:
                decode_box(data, image, tuple(box.tolist()))
        except (FfcvSslError, OSError) as error:
            raise self._error(sample_id, str(error)) from error

    def _error(self, sample_id: int, what: str) -> SampleError:
        return SampleError(f"{self.reader.path}: sample {sample_id}, field {self.plan.field!r}: {what}", sample_id, self.plan.field)
