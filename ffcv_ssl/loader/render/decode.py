"""Decoder of the stored images of one field.

Compiled code (`ffcv_ssl.loader.render.chunk`) decodes raw images, cached images and, if the native
decoder is built, JPEGs. Python decodes all other images, one at a time, and finds the reason if
compiled code could not decode a sample.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from ffcv_ssl.beton.reader import BetonReader
from ffcv_ssl.codecs.decode import decode_box, decode_jpeg
from ffcv_ssl.codecs.jpeg import inspect_jpeg
from ffcv_ssl.codecs.limits import check_pixels, max_pixels
from ffcv_ssl.errors import FfcvSslError, ImageError, PipelineError, SampleError
from ffcv_ssl.fields.image import MODE_RAW
from ffcv_ssl.loader.render.boxes import DENOMINATOR, HEIGHT, WIDTH, whole_box
from ffcv_ssl.loader.render.cache import ImageCache
from ffcv_ssl.loader.render.chunk import DONE, Workspace, decode_chunk
from ffcv_ssl.loader.render.stored_images import stored_images
from ffcv_ssl.loader.render.thread_memory import ThreadMemory

# Before memory for an image of more pixels is allocated, the JPEG's header is read and compared
# with the size in the record.
HUGE_PIXELS = 1 << 24


class ImageDecoder:
    """Decoder of the stored images of one field.

    Parameters
    ----------
    reader
        The open file.
    field
        Name of the field.
    cache
        Memory for decoded images.
    mode
        "exact", "full" or "fast"; see the parameter `decode` of `Loader`.

    Attributes
    ----------
    sizes
        (num_samples, 2) int64, heights and widths.
    modes
        (num_samples,) uint8, modes of the stored images.
    images
        The field in the form that compiled code reads.
    memory
        Memory that each thread reuses.

    Raises
    ------
    PipelineError
        If `mode` is "fast" and the native decoder is missing, or the cache keeps whole images.
    """

    def __init__(self, reader: BetonReader, field: str, cache: ImageCache, mode: str):
        self.reader, self.field, self.mode = reader, field, mode
        self.images = stored_images(reader, field, cache)
        self.sizes, self.modes = self.images.sizes, self.images.modes
        self.memory = ThreadMemory(self.images.decode != 0)
        self._is_huge = self.sizes.prod(axis=1) > min(HUGE_PIXELS, max_pixels())
        # Without these C functions, Python decodes all samples.
        has_checksums = len(self.images.checksums) > 0
        self._can_compile = bool(self.images.pread and (self.images.crc32 or not has_checksums))
        if mode == "fast" and not (self.images.decode and self._can_compile):
            raise PipelineError(
                f"{self.where}: decode='fast' needs the native decoder, which is not built; "
                "use decode='exact'."
            )
        if mode == "fast" and len(cache.memory):
            raise PipelineError(
                f"{self.where}: decode='fast' decodes parts of images, but cache='ram' keeps "
                "whole images; use cache='os' or decode='exact'."
            )

    @property
    def where(self) -> str:
        """File and field, for messages."""
        return f"{self.reader.path}: field {self.field!r}"

    def supports_compiled(self, sample_ids: NDArray[np.int64]) -> bool:
        """Return whether compiled code can decode all of these samples, (n,) int64."""
        images = self.images
        if not self._can_compile:
            return False
        if images.decode:
            return True
        return bool(
            ((images.modes[sample_ids] == MODE_RAW) | (images.cached[sample_ids] != 0)).all()
        )

    def workspace(self, sample_ids: NDArray[np.int64]) -> Workspace:
        """Return this thread's memory for decoding some samples, (n,) int64, in compiled code."""
        num_pixels = int(self.sizes[sample_ids].prod(axis=1).max())
        return self.memory.workspace(int(self.images.num_bytes[sample_ids].max()), num_pixels)

    def decode_boxes(
        self,
        sample_ids: NDArray[np.int64],
        boxes: NDArray[np.int64],
        starts: NDArray[np.int64],
        packed: NDArray[np.uint8],
    ) -> None:
        """Decode boxes of some samples into a buffer.

        Parameters
        ----------
        sample_ids
            (n,) int64.
        boxes
            (n, levels, 5) int64; see `plan_boxes`.
        starts
            (n, levels) int64, offset in `packed` of the pixels of each box.
        packed
            uint8; the pixels of the boxes are overwritten with interleaved RGB, without gaps.

        Raises
        ------
        SampleError
            If a sample cannot be read or decoded.
        """

        def compiled(part: slice) -> NDArray[np.uint8]:
            ids = sample_ids[part]
            statuses = np.empty(len(ids), np.uint8)
            workspace = self.workspace(ids)
            decode_chunk(self.images, workspace, ids, boxes[part], starts[part], packed, statuses)
            return statuses

        def in_python(index: int) -> None:
            box, start = boxes[index, 0], int(starts[index, 0])
            top, left, height, width = box[:DENOMINATOR]
            image = self.decode(int(sample_ids[index]), box)
            pixels = image[top : top + height, left : left + width]
            packed[start : start + pixels.size] = pixels.reshape(-1)

        self.run_with_fallback(
            sample_ids, compiled if self.supports_compiled(sample_ids) else None, in_python
        )

    def run_with_fallback(
        self,
        sample_ids: NDArray[np.int64],
        compiled: Callable[[slice], NDArray[np.uint8]] | None,
        in_python: Callable[[int], None],
    ) -> None:
        """Process a chunk of samples in compiled code, and in Python where that fails.

        Parameters
        ----------
        sample_ids
            (n,) int64.
        compiled
            Function that processes a slice of the chunk and returns the status of each sample.
            None: Python processes all samples.
        in_python
            Function that processes the sample at an index of the chunk.

        Raises
        ------
        SampleError
            If a sample cannot be read or decoded.
        """
        with self._guard_memory(sample_ids):
            if compiled is None:
                for index in range(len(sample_ids)):
                    in_python(index)
                return
            for index in np.flatnonzero(compiled(slice(0, len(sample_ids))) != DONE).tolist():
                sample_id = int(sample_ids[index])
                self._raise_if_damaged(sample_id)
                # The sample is readable after all, for instance after an interrupted read.
                if compiled(slice(index, index + 1))[0] != DONE:
                    self._require_exact(sample_id)
                    in_python(index)

    def decode(self, sample_id: int, box: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Decode one image in Python.

        Parameters
        ----------
        sample_id
            Position of the sample in the file.
        box
            (5,) int64, the part to decode; see `plan_boxes`. The denominator is 1.

        Returns
        -------
        numpy.ndarray
            (H, W, 3) uint8, in memory of this thread or of the cache. Pixels outside the box may be
            undefined.

        Raises
        ------
        SampleError
            If the sample cannot be read or decoded.
        """
        if self._is_huge[sample_id]:
            self._check_recorded_size(sample_id)
        height, width = self.sizes[sample_id]
        offset, size = self.images.offsets[sample_id], height * width * 3
        is_kept = offset >= 0
        if is_kept:
            memory = self.images.cache[offset : offset + size]
        else:
            memory = self.memory.buffer("pixels", size)[:size]
        image = memory.reshape(height, width, 3)
        if not self.images.cached[sample_id]:
            self._read_into(sample_id, whole_box((height, width)) if is_kept else box, image)
            self.images.cached[sample_id] = is_kept
        return image

    def _raise_if_damaged(self, sample_id: int) -> None:
        """Raise SampleError if Python cannot read and decode the whole image either."""
        size = self.sizes[sample_id]
        self._read_into(sample_id, whole_box(size), np.empty((*size, 3), np.uint8))

    def _require_exact(self, sample_id: int) -> None:
        """Raise SampleError for decode="fast", which compiled code alone supports."""
        if self.mode == "fast":
            raise self.error(
                sample_id,
                "the JPEG has stray bytes after its last block, which decode='fast' cannot read; "
                "use decode='exact'.",
            )

    def _read_into(self, sample_id: int, box: NDArray[np.int64], image: NDArray[np.uint8]) -> None:
        """Read one stored image and decode a box of it into `image` (H, W, 3)."""
        try:
            if self.modes[sample_id] == MODE_RAW:
                pixels = image.reshape(-1)
                self.reader.read_into(int(self.images.pointers[sample_id]), image.size, pixels)
                self.reader.check_value(sample_id, self.field, pixels)
                return
            data = self._read_stored(sample_id)
            if (box[HEIGHT], box[WIDTH]) == image.shape[:2]:
                decode_jpeg(data, image)
            else:
                decode_box(data, image, tuple(box[:DENOMINATOR].tolist()))
        except (FfcvSslError, OSError) as error:
            raise self.error(sample_id, str(error)) from error

    def _read_stored(self, sample_id: int) -> NDArray[np.uint8]:
        """Read the stored bytes of a sample into memory of this thread; check their checksum."""
        size = int(self.images.num_bytes[sample_id])
        data = self.memory.buffer("file", size)[:size]
        self.reader.read_into(int(self.images.pointers[sample_id]), size, data)
        self.reader.check_value(sample_id, self.field, data)
        return data

    @contextmanager
    def _guard_memory(self, sample_ids: NDArray[np.int64]) -> Iterator[None]:
        """Check the recorded sizes of huge images; convert MemoryError to SampleError."""
        for sample_id in sample_ids[self._is_huge[sample_ids]]:
            self._check_recorded_size(int(sample_id))
        try:
            yield
        except MemoryError as error:
            largest = int(sample_ids[self.sizes[sample_ids].prod(axis=1).argmax()])
            height, width = self.sizes[largest]
            raise self.error(
                largest, f"not enough memory for an image of {width} x {height} pixels."
            ) from error

    def _check_recorded_size(self, sample_id: int) -> None:
        """Compare the size in a record with the limit and with the JPEG's own header."""
        height, width = (int(side) for side in self.sizes[sample_id])
        try:
            check_pixels(width, height)
            if self.modes[sample_id] == MODE_RAW:
                return  # the reader has compared the size with the number of stored bytes
            info = inspect_jpeg(self._read_stored(sample_id))
            if (info.height, info.width) != (height, width):
                raise ImageError(
                    f"the JPEG has {info.width} x {info.height} pixels, "
                    f"but its record says {width} x {height}."
                )
        except (FfcvSslError, OSError) as error:
            raise self.error(sample_id, str(error)) from error

    def error(self, sample_id: int, reason: str) -> SampleError:
        """Return an error that names file, sample, field and the reason."""
        message = f"{self.reader.path}: sample {sample_id}, field {self.field!r}: {reason}"
        return SampleError(message, sample_id, self.field)
