"""One batch on its way: drawn, rendered in chunks by the threads, finished in the consumer's thread."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from ffcv_ssl.errors import SampleError
from ffcv_ssl.loader.batch import Batch
from ffcv_ssl.loader.buffers import BufferPool, as_tensor, pinned_tensor
from ffcv_ssl.loader.engine import Engine
from ffcv_ssl.loader.images import ImageRenderer
from ffcv_ssl.loader.values import ValueReader
from ffcv_ssl.pipeline.plan import OutputPlan
from ffcv_ssl.pipeline.table import ParameterTable

MAX_CHUNK = 32  # samples
CHUNKS_PER_THREAD = 4  # of a batch: enough that no thread waits long for the slowest


@dataclass(frozen=True)
class BatchPlan:
    """What every batch of a loader is made of."""

    path: str
    seed: int
    images: tuple[ImageRenderer, ...]
    values: tuple[ValueReader, ...]
    names: tuple[str, ...]
    """Fields of the batch, in order."""
    with_ids: bool
    with_params: bool

    @property
    def outputs(self) -> list[OutputPlan]:
        """All rendered fields."""
        return [output for image in self.images for output in image.plan.outputs]

    @property
    def device(self) -> torch.device:
        """Device of the views, where fields without a pipeline go too."""
        return self.outputs[0].device if self.outputs else torch.device("cpu")


class BatchWork:
    """One batch; `open` is the first job, `done` is set when the last chunk is rendered or one failed."""

    def __init__(self, plan: BatchPlan, sample_ids: np.ndarray, epoch: int, engine: Engine, pool: BufferPool, owner: object):
        self.plan, self.sample_ids, self.epoch = plan, sample_ids, epoch
        self.done = threading.Event()
        self.error: BaseException | None = None
        self._engine, self._pool, self._owner = engine, pool, owner
        self._lock = threading.Lock()
        self._tables: dict[str, ParameterTable] = {}
        self._rows: list[list[np.ndarray]] = []
        self._tensors: list[list[torch.Tensor]] = []
        self._arrays: list[list[np.ndarray]] = []
        self._values: list[Any] = []
        self._remaining = 0

    def open(self) -> None:
        """Draw all parameters, take memory, and queue the chunks before all other jobs."""
        try:
            ids = self.sample_ids
            for image in self.plan.images:
                table = image.plan.draw(self.plan.seed, self.epoch, ids, image.sizes[ids])
                self._tables[image.plan.field] = table
                self._rows.append([tensor.rows(table) for tensor in image.plan.tensors])
                self._take_memory(image)
            self._values = [value.allocate(ids) for value in self.plan.values]
            chunk = max(1, min(MAX_CHUNK, -(-len(ids) // (CHUNKS_PER_THREAD * max(self._engine.num_workers, 1)))))
            starts = range(0, len(ids), chunk)
            self._remaining = len(starts)
            self._engine.submit(self._owner, [partial(self._chunk, start, min(start + chunk, len(ids))) for start in starts], first=True)
        except BaseException as error:  # carried to the consumer
            self._fail(error)

    def _take_memory(self, image: ImageRenderer) -> None:
        """Take memory for every tensor of one image field: from the pool, or pinned where the views go to a GPU."""
        tensors, arrays = [], []
        for output in image.plan.outputs:
            for plan in output.tensors:
                shape = plan.shape(len(self.sample_ids))
                if output.device.type == "cuda":
                    tensor = pinned_tensor(shape, plan.dtype)
                    array = (tensor.view(torch.uint16) if plan.lut.dtype == np.uint16 else tensor).numpy()
                else:
                    array = self._pool.take(shape, plan.lut.dtype)
                    tensor = as_tensor(array, plan.dtype)
                tensors.append(tensor)
                arrays.append(array)
        self._tensors.append(tensors)
        self._arrays.append(arrays)

    def _chunk(self, start: int, stop: int) -> None:
        """Read, decode and render samples [start, stop) of the batch."""
        try:
            if self.error is None:
                for image, rows, arrays in zip(self.plan.images, self._rows, self._arrays, strict=True):
                    self._render(image, rows, arrays, start, stop)
                for value, out in zip(self.plan.values, self._values, strict=True):
                    value.read(self.sample_ids[start:stop], out, start)
        except BaseException as error:  # carried to the consumer
            self._fail(error)
            return
        with self._lock:
            self._remaining -= 1
            if self._remaining == 0:
                self._arrays = []  # from here on the memory belongs to the tensors
                self.done.set()

    def _render(self, image: ImageRenderer, rows: list[np.ndarray], arrays: list[np.ndarray], start: int, stop: int) -> None:
        """Render one chunk in runs; an error names file, sample and field."""
        ids = self.sample_ids[start:stop]
        for first, last in image.runs(ids):
            try:
                image.render(ids[first:last], rows, arrays, start + first)
            except Exception as error:
                failed = getattr(error, "sample_id", None)
                sample_id = int(ids[first] if failed is None else failed)
                message = f"{self.plan.path}: sample {sample_id}, field {image.plan.field!r}: {error}"
                raise SampleError(message, sample_id, image.plan.field) from error

    def _fail(self, error: BaseException) -> None:
        with self._lock:
            self.error = self.error or error
            self.done.set()

    def finish(self) -> Batch:
        """Return the batch, after the stages; raises what any of its jobs raised."""
        if self.error is not None:
            raise self.error
        finished: dict[str, Any] = {}
        for image, tensors in zip(self.plan.images, self._tensors, strict=True):
            remaining = iter(tensors)
            for output in image.plan.outputs:
                finished[output.name] = output.finish([next(remaining) for _ in output.tensors])
        for value, out in zip(self.plan.values, self._values, strict=True):
            finished[value.name] = value.finish(out, self.plan.device)
        self._tensors, self._values = [], []
        params: Mapping[str, ParameterTable] | None = self._tables if self.plan.with_params else None
        return Batch({name: finished[name] for name in self.plan.names}, self.sample_ids if self.plan.with_ids else None, params)
