"""Where read, decode and render meet: all views of a chunk of samples, from one read and one decode each."""

import threading
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from ffcv_ssl.beton.reader import BetonReader
from ffcv_ssl.codecs.decode import decode_jpeg
from ffcv_ssl.errors import FfcvSslError, SampleError
from ffcv_ssl.fields.image import MODE_RAW
from ffcv_ssl.kernels.cpu.scratch import Scratch, make_scratch
from ffcv_ssl.kernels.cpu.view import render_views
from ffcv_ssl.kernels.rows import NUM_COLUMNS
from ffcv_ssl.pipeline.plan import ImagePlan, TensorPlan
from ffcv_ssl.pipeline.table import ParameterTable

MAX_RUN_PIXELS = 1 << 18  # of all images of a run together, so that they stay in cache and memory does not grow with the chunk
IDENTITY_LUT = np.tile(np.arange(256, dtype=np.uint8), (3, 1))


class ThreadMemory(threading.local):
    """Memory that one thread reuses; it grows to the largest image that this thread has met."""

    def __init__(self):
        self._bytes: dict[str, np.ndarray] = {}
        self._scratch: Scratch | None = None
        self._source_size = 0, 0  # the largest that the scratch serves

    def bytes(self, name: str, size: int) -> np.ndarray:
        """Return the first `size` bytes of a buffer, uninitialised."""
        if name not in self._bytes or len(self._bytes[name]) < size:
            self._bytes[name] = np.empty(size, np.uint8)
        return self._bytes[name][:size]

    def scratch(self, source_size: tuple[int, int], view_sizes: tuple[tuple[int, int], ...]) -> Scratch:
        """Return work arrays for images up to `source_size` and for all the views."""
        largest = max(source_size[0], self._source_size[0]), max(source_size[1], self._source_size[1])
        if self._scratch is None or largest != self._source_size:
            self._source_size, self._scratch = largest, make_scratch(largest, view_sizes)
        return self._scratch


class ImageRenderer:
    """Renders the views of one stored image field.

    Parameters
    ----------
    reader
        The open file.
    plan
        What to render.
    """

    def __init__(self, reader: BetonReader, plan: ImagePlan):
        records = reader.records[plan.field]
        self.reader, self.plan = reader, plan
        self.modes = np.ascontiguousarray(records["mode"])
        self.sizes = np.stack((records["height"], records["width"]), axis=1).astype(np.int32)
        self.pointers, self.num_bytes = reader.extents(plan.field)
        view_sizes = tuple(dict.fromkeys(tensor.size for tensor in plan.tensors))
        # Later passes read finished views, so these count as sources too.
        self._smallest_source = tuple(max(size[axis] for size in view_sizes) for axis in (0, 1))
        self._view_sizes = view_sizes
        self._memory = ThreadMemory()

    def draw(self, seed: int, epoch: int, sample_ids: np.ndarray) -> tuple[ParameterTable, list[np.ndarray]]:
        """Draw the parameter table of some samples, and the kernel rows of every tensor, (N, V, passes, NUM_COLUMNS)."""
        table = self.plan.draw(seed, epoch, sample_ids, self.sizes[sample_ids])
        return table, [tensor.rows(table) for tensor in self.plan.tensors]

    def render(self, sample_ids: np.ndarray, rows: Sequence[np.ndarray], outs: Sequence[np.ndarray], start: int) -> None:
        """Render samples into positions from `start` of the batch's memory.

        Parameters
        ----------
        sample_ids
            (n,) of this chunk.
        rows
            Kernel rows of the whole batch per tensor, (N, V, passes, NUM_COLUMNS).
        outs
            Memory of the whole batch per tensor (`TensorPlan.shape`).
        start
            Position of the chunk's first sample in the batch.

        Raises
        ------
        SampleError
            If a sample cannot be read or decoded; it names file, sample and field.
        """
        for first, last in self._runs(sample_ids):
            self._render_run(sample_ids[first:last], rows, outs, start + first)

    def _render_run(self, sample_ids: np.ndarray, rows: Sequence[np.ndarray], outs: Sequence[np.ndarray], start: int) -> None:
        """Render samples of one size with one kernel call per tensor."""
        images = self._read(sample_ids)
        scratch = self._memory.scratch(tuple(np.maximum(images.shape[1:3], self._smallest_source)), self._view_sizes)
        for tensor, tensor_rows, out in zip(self.plan.tensors, rows, outs, strict=True):
            stop = start + len(images)
            render_tensor(images, tensor, tensor_rows[start:stop], scratch, out[start:stop])

    def _read(self, sample_ids: np.ndarray) -> np.ndarray:
        """Return the decoded images of samples of one size, (n, H, W, 3) uint8, in the thread's memory."""
        height, width = (int(side) for side in self.sizes[sample_ids[0]])
        images = self._memory.bytes("pixels", len(sample_ids) * height * width * 3).reshape(len(sample_ids), height, width, 3)
        for image, sample_id in zip(images, sample_ids, strict=True):
            try:
                self._decode(int(sample_id), image)
            except (FfcvSslError, OSError) as error:
                where = f"{self.reader.path}: sample {sample_id}, field {self.plan.field!r}"
                raise SampleError(f"{where}: {error}", int(sample_id), self.plan.field) from error
        return images

    def _decode(self, sample_id: int, image: np.ndarray) -> None:
        """Read one stored image and decode it into `image` (H, W, 3)."""
        pointer, size = int(self.pointers[sample_id]), int(self.num_bytes[sample_id])
        if self.modes[sample_id] == MODE_RAW:
            self.reader.read_into(pointer, size, image.reshape(-1))
        else:
            data = self._memory.bytes("file", size)
            self.reader.read_into(pointer, size, data)
            decode_jpeg(data, image)

    def _runs(self, sample_ids: np.ndarray) -> list[tuple[int, int]]:
        """Split a chunk into runs that one kernel call renders: neighbours that are raw, small and of one size, or a single image."""
        borders = [0]
        for i in range(1, len(sample_ids)):
            before, here = sample_ids[i - 1], sample_ids[i]
            raw = self.modes[before] == self.modes[here] == MODE_RAW
            fits = (i + 1 - borders[-1]) * int(self.sizes[here].prod(dtype=np.int64)) <= MAX_RUN_PIXELS
            if not (raw and fits and (self.sizes[before] == self.sizes[here]).all()):
                borders.append(i)
        return list(pairwise([*borders, len(sample_ids)]))


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
