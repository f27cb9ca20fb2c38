"""Decode the stored images of one field, in compiled code where that is possible.

Compiled code (`ffcv_ssl.loader.render.chunk`) decodes raw and cached images, and JPEGs where the
native decoder is built. Elsewhere, and to find out why compiled code could not decode a sample,
Python decodes one image at a time.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from ffcv_ssl.beton.reader import BetonReader
from ffcv_ssl.codecs.decode import decode_box, decode_jpeg
from ffcv_ssl.codecs.jpeg import inspect_jpeg
from ffcv_ssl.codecs.limits import check_pixels
from ffcv_ssl.errors import FfcvSslError, ImageError, PipelineError, SampleError
from ffcv_ssl.fields.image import MODE_RAW
from ffcv_ssl.loader.render.boxes import DENOMINATOR, HEIGHT, WIDTH, whole_box
from ffcv_ssl.loader.render.cache import ImageCache
from ffcv_ssl.loader.render.chunk import DONE, StoredImages, Workspace, decode_chunk
from ffcv_ssl.loader.render.thread_memory import (
    ThreadMemory,
    crc32_address,
    native_decoder,
    pread_address,
)

HUGE_PIXELS = (
    1 << 24
)  # the header of a JPEG of more is read before there is memory for the size that its record gives
NOT_FAST = "the image has stray bytes behind its last block, which decode='fast' cannot read; use decode='exact'."


class ImageDecoder:
    """Decodes the stored images of one field.

    Parameters
    ----------
    reader
        The open file.
    field
        Name of the field.
    cache
        Where decoded images are kept.
    mode
        "exact", "full" or "fast"; see `Loader`.

    Attributes
    ----------
    images
        The field as compiled code sees it.
    memory
        What each thread keeps for itself.

    Raises
    ------
    PipelineError
        If `mode` is "fast" without the native decoder, or together with a cache.
    """

    def __init__(self, reader: BetonReader, field: str, cache: ImageCache, mode: str):
        records = reader.records[field]
        self.reader, self.field, self.mode = reader, field, mode
        self.sizes = np.stack((records["height"], records["width"]), axis=1).astype(np.int64)
        self.modes = np.array(
            records["mode"]
        )  # a copy, writable: Numba compiles anew for arrays that are not
        pointers, num_bytes = (values.astype(np.int64) for values in reader.extents(field))
        checksums = reader.value_checksums(field) if reader.check == "read" else None
        self.images = StoredImages(
            descriptor=reader.fileno(),
            pread=pread_address(),
            decode=native_decoder(),
            crc32=0 if checksums is None else crc32_address(),
            checksums=np.zeros(0, np.uint32)
            if checksums is None
            else np.array(checksums, np.uint32),
            modes=self.modes,
            sizes=self.sizes,
            pointers=pointers,
            num_bytes=num_bytes,
            cache=cache.memory,
            offsets=cache.offsets,
            cached=cache.cached,
        )
        self.memory = ThreadMemory(self.images.decode != 0)
        self._is_huge = self.sizes.prod(axis=1) > HUGE_PIXELS
        # On a platform without these functions no sample is compiled.
        self._can_compile = bool(self.images.pread and (self.images.crc32 or checksums is None))
        if mode == "fast" and not (self.images.decode and self._can_compile):
            raise PipelineError(
                f"{self.where}: decode='fast' needs the native decoder, which is not built here; use decode='exact'."
            )
        if mode == "fast" and len(cache.memory):
            raise PipelineError(
                f"{self.where}: decode='fast' decodes parts of images, and cache='ram' keeps whole ones; use cache='os' or decode='exact'."
            )

    @property
    def where(self) -> str:
        """File and field, for messages."""
        return f"{self.reader.path}: field {self.field!r}"

    def is_compiled(self, sample_ids: np.ndarray) -> bool:
        """Whether compiled code can decode every one of these samples."""
        images = self.images
        if not self._can_compile:
            return False
        return bool(
            images.decode
            or ((images.modes[sample_ids] == MODE_RAW) | (images.cached[sample_ids] != 0)).all()
        )

    def workspace(self, sample_ids: np.ndarray) -> Workspace:
        """Return this thread's memory for decoding some samples in compiled code."""
        num_pixels = int(self.sizes[sample_ids].prod(axis=1).max())
        return self.memory.workspace(int(self.images.num_bytes[sample_ids].max()), num_pixels)

    def decode_boxes(
        self, sample_ids: np.ndarray, boxes: np.ndarray, starts: np.ndarray, packed: np.ndarray
    ) -> None:
        """Decode boxes of some samples into a buffer.

        Parameters
        ----------
        sample_ids
            (n,) int64.
        boxes
            (n, levels, 5) int64; see `plan_boxes`.
        starts
            (n, levels) int64, where in `packed` the pixels of each box go.
        packed
            uint8; overwritten there with interleaved RGB, without gaps.

        Raises
        ------
        SampleError
            If a sample cannot be read or decoded.
        """
        with self.guarding_memory(sample_ids):
            if not self.is_compiled(sample_ids):
                for index, sample_id in enumerate(sample_ids):
                    self._decode_box(int(sample_id), boxes[index, 0], starts[index, 0], packed)
                return
            for index in np.flatnonzero(
                self._decode_compiled(sample_ids, boxes, starts, packed) != DONE
            ):
                one, number = slice(index, index + 1), int(sample_ids[index])
                self.explain(number)
                if (
                    self._decode_compiled(sample_ids[one], boxes[one], starts[one], packed)[0]
                    != DONE
                ):
                    self.require_other_than_fast(number)
                    self._decode_box(number, boxes[index, 0], starts[index, 0], packed)

    def _decode_compiled(
        self, sample_ids: np.ndarray, boxes: np.ndarray, starts: np.ndarray, packed: np.ndarray
    ) -> np.ndarray:
        """Decode in compiled code; return the status of each sample."""
        statuses = np.empty(len(sample_ids), np.uint8)
        decode_chunk(
            self.images, self.workspace(sample_ids), sample_ids, boxes, starts, packed, statuses
        )
        return statuses

    def _decode_box(self, sample_id: int, box: np.ndarray, start: int, packed: np.ndarray) -> None:
        """Decode one box in Python."""
        top, left, height, width = box[:DENOMINATOR]
        image = self.decode(sample_id, box)
        packed[start : start + 3 * height * width] = image[
            top : top + height, left : left + width
        ].reshape(-1)

    def decode(self, sample_id: int, box: np.ndarray) -> np.ndarray:
        """Decode one image in Python.

        Returns
        -------
        np.ndarray
            (H, W, 3) uint8, in memory of this thread or of the cache. At least `box` of it is decoded.

        Raises
        ------
        SampleError
            If the sample cannot be read or decoded.
        """
        if self._is_huge[sample_id]:
            self._check_claim(sample_id)
        height, width = self.sizes[sample_id]
        offset, size = self.images.offsets[sample_id], height * width * 3
        memory = (
            self.memory.bytes("pixels", size)[:size]
            if offset < 0
            else self.images.cache[offset : offset + size]
        )
        image = memory.reshape(height, width, 3)
        if not self.images.cached[sample_id]:
            self._read_into(sample_id, whole_box((height, width)) if offset >= 0 else box, image)
            self.images.cached[sample_id] = offset >= 0
        return image

    def explain(self, sample_id: int) -> None:
        """Raise the SampleError of an image that cannot be read or decoded; nothing for a sound one."""
        size = self.sizes[sample_id]
        self._read_into(sample_id, whole_box(size), np.empty((*size, 3), np.uint8))

    def require_other_than_fast(self, sample_id: int) -> None:
        """Raise SampleError for a sound image that compiled code cannot decode, if no other code may."""
        if self.mode == "fast":
            raise self.error(sample_id, NOT_FAST)

    def _read_into(self, sample_id: int, box: np.ndarray, image: np.ndarray) -> None:
        """Read one stored image and decode a box of it into `image` (H, W, 3)."""
        try:
            if self.modes[sample_id] == MODE_RAW:
                self.reader.read_into(
                    int(self.images.pointers[sample_id]), image.size, image.reshape(-1)
                )
                self.reader.check_value(sample_id, self.field, image.reshape(-1))
                return
            data = self._stored(sample_id)
            if (box[HEIGHT], box[WIDTH]) == image.shape[:2]:
                decode_jpeg(data, image)
            else:
                decode_box(data, image, tuple(box[:DENOMINATOR].tolist()))
        except (FfcvSslError, OSError) as error:
            raise self.error(sample_id, str(error)) from error

    def _stored(self, sample_id: int) -> np.ndarray:
        """Read the stored bytes of a sample into memory of this thread, and compare them with their checksum."""
        size = int(self.images.num_bytes[sample_id])
        data = self.memory.bytes("file", size)[:size]
        self.reader.read_into(int(self.images.pointers[sample_id]), size, data)
        self.reader.check_value(sample_id, self.field, data)
        return data

    @contextmanager
    def guarding_memory(self, sample_ids: np.ndarray) -> Iterator[None]:
        """Check the sizes of huge images before there is memory for them.

        Raises SampleError if a size is false or above the limit, or if memory does not suffice in the block.
        """
        for sample_id in sample_ids[self._is_huge[sample_ids]]:
            self._check_claim(int(sample_id))
        try:
            yield
        except MemoryError as error:
            largest = int(sample_ids[self.sizes[sample_ids].prod(axis=1).argmax()])
            height, width = self.sizes[largest]
            raise self.error(
                largest, f"there is no memory for an image of {width} x {height} pixels."
            ) from error

    def _check_claim(self, sample_id: int) -> None:
        """Compare the size in a record with the limit and with the image's own header."""
        height, width = (int(side) for side in self.sizes[sample_id])
        try:
            check_pixels(width, height)
            if self.modes[sample_id] == MODE_RAW:
                return  # the reader has compared it with the number of stored bytes
            info = inspect_jpeg(self._stored(sample_id))
            if (info.height, info.width) != (height, width):
                raise ImageError(
                    f"JPEG of {info.width} x {info.height} pixels, its record says {width} x {height}."
                )
        except (FfcvSslError, OSError) as error:
            raise self.error(sample_id, str(error)) from error

    def error(self, sample_id: int, what: str) -> SampleError:
        """Return the error that names file, sample and field."""
        return SampleError(
            f"{self.reader.path}: sample {sample_id}, field {self.field!r}: {what}",
            sample_id,
            self.field,
        )
