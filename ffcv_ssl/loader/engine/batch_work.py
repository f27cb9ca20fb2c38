"""One batch on its way: drawn, rendered in chunks by the threads, finished in the consumer's thread."""

import logging
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch

from ffcv_ssl.errors import PipelineError, SampleError
from ffcv_ssl.loader.batch import Batch, make_batch
from ffcv_ssl.loader.engine.buffers import BufferPool
from ffcv_ssl.loader.engine.threads import Engine
from ffcv_ssl.loader.order.epoch_order import EpochPosition
from ffcv_ssl.loader.render.renderer import RenderedBatch, Renderer
from ffcv_ssl.loader.values import ValueReader

logger = logging.getLogger("ffcv_ssl")
MAX_CHUNK = 32  # samples, unless these are small
CHUNKS_PER_THREAD = 4  # of a batch: enough that no thread waits long for the slowest
CHUNK_PIXELS = 400_000  # of views, some 4 ms of work: handing out a chunk costs 40 to 70 us, in which no other thread can do the same
MAX_SUBSTITUTES = 100  # unreadable samples in a row, after which a position is given up


@dataclass(frozen=True)
class BatchPlan:
    """What every batch of a loader is made of."""

    seed: int
    images: tuple[Renderer, ...]
    values: tuple[ValueReader, ...]
    names: tuple[str, ...]
    """Fields of the batch, in order."""
    with_ids: bool
    with_params: bool
    on_error: str
    failures: list[SampleError] = field(default_factory=list)
    """Samples that could not be read, in the order in which they were met."""

    @property
    def num_pixels(self) -> int:
        """What the threads have to do per sample, in pixels of views."""
        return sum(image.num_pixels for image in self.images)

    @property
    def device(self) -> torch.device:
        """Device of the views, where fields without a pipeline go too."""
        return self.images[0].output_device if self.images else torch.device("cpu")


def chunk_size(count: int, num_pixels: int, num_threads: int) -> int:
    """Return how many of a batch's samples, whose views have `num_pixels` each, a thread gets at a time.

    Enough to be worth handing out, as long as every thread gets a chunk; else a thread's share in a few parts.
    """
    worthwhile = -(-CHUNK_PIXELS // max(num_pixels, 1))
    share = -(-count // num_threads)
    return max(1, min(worthwhile, share), min(MAX_CHUNK, -(-share // CHUNKS_PER_THREAD)))


class BatchWork:
    """One batch; `open` is the first job, `done` is set when the last chunk is rendered or one failed."""

    def __init__(
        self, plan: BatchPlan, place: EpochPosition, engine: Engine, pool: BufferPool, owner: object
    ):
        self.done = threading.Event()
        self.error: BaseException | None = None
        self._plan, self._place = plan, place
        self._ids, self._occurrences = place.sample_ids(), place.occurrences()
        self._engine, self._pool, self._owner = engine, pool, owner
        self._lock = threading.Lock()
        self._batches: list[RenderedBatch] = []  # per image field
        self._values: list[Any] = []  # per other field
        self._skipped: list[int] = []  # positions
        self._remaining = 0  # chunks

    def open(self) -> None:
        """Draw all parameters, take memory, and queue the chunks before all other jobs."""
        try:
            for image in self._plan.images:
                parameters = image.draw(
                    self._plan.seed, self._place.epoch, self._ids, self._occurrences
                )
                self._batches.append(image.allocate(parameters, self._pool))
            self._values = [value.allocate(self._ids) for value in self._plan.values]
            count = len(self._ids)
            chunk = chunk_size(count, self._plan.num_pixels, max(self._engine.num_workers, 1))
            starts = range(0, count, chunk)
            self._remaining = len(starts)
            self._engine.submit(
                self._owner,
                [partial(self._chunk, start, min(start + chunk, count)) for start in starts],
                first=True,
            )
        except MemoryError as error:
            wanted = (
                f"a batch of {len(self._ids)} samples; use a smaller batch_size or batches_ahead"
            )
            self.fail(PipelineError(f"there is no memory for {wanted} ({error})."))
        except BaseException as error:  # carried to the consumer
            self.fail(error)

    def _chunk(self, start: int, stop: int) -> None:
        """Make samples [start, stop) of the batch; the job of a thread."""
        try:
            if self.error is None:
                self._fill_or_recover(start, stop)
        except BaseException as error:  # carried to the consumer
            self.fail(error)
            return
        with self._lock:
            self._remaining -= 1
            is_last = self._remaining == 0
        if is_last:
            self._end()

    def _end(self) -> None:
        """All chunks are done; where a GPU renders, the images are sent to it, ahead of use."""
        try:
            if self.error is None and not self.is_empty:
                for batch in self._batches:
                    batch.seal()
            self.done.set()
        except BaseException as error:  # carried to the consumer
            self.fail(error)

    def _fill(self, start: int, stop: int) -> None:
        """Read, decode and render samples [start, stop)."""
        ids = self._ids[start:stop]
        for image, batch in zip(self._plan.images, self._batches, strict=True):
            image.fill(batch, ids, start)
        for value, out in zip(self._plan.values, self._values, strict=True):
            value.read(ids, out, start)

    def _fill_or_recover(self, start: int, stop: int) -> None:
        """Fill a chunk; where a sample cannot be read and errors are not to be raised, go through it one by one."""
        try:
            self._fill(start, stop)
        except SampleError:
            if self._plan.on_error == "raise":
                raise
            for position in range(start, stop):
                self._recover(position)

    def _recover(self, position: int) -> None:
        """Fill one position with its own sample or, if that is asked for, with the next readable one; else mark it as skipped."""
        last: SampleError | None = None
        for sample_id in self._candidates(position):
            try:
                if sample_id != self._ids[position]:
                    self._replace(position, sample_id)
                self._fill(position, position + 1)
            except SampleError as error:
                last = error
                self._plan.failures.append(
                    SampleError(str(error), error.sample_id, error.field)
                )  # without frames, which hold memory
                logger.warning(
                    "%s (%s)", error, "skipped" if self._plan.on_error == "skip" else "substituted"
                )
            else:
                return
        if self._plan.on_error == "substitute":
            raise SampleError(
                f"no sample that follows in the order can stand in for a damaged one; the last tried: {last}"
            )
        self._skipped.append(position)

    def _candidates(self, position: int) -> Iterator[int]:
        """Yield the sample of a position, then its substitutes, which follow the batch in the order."""
        candidates = [int(self._ids[position])]
        if self._plan.on_error == "substitute":
            candidates += self._place.following(position, MAX_SUBSTITUTES).tolist()
        yield from dict.fromkeys(candidates)

    def _replace(self, position: int, sample_id: int) -> None:
        """Put another sample in a position, with parameters of its own there."""
        chosen = np.array([sample_id])
        occurrence = self._place.further_occurrence(position)
        self._ids[position] = sample_id
        for image, batch in zip(self._plan.images, self._batches, strict=True):
            batch.parameters.replace(
                position, image.draw(self._plan.seed, self._place.epoch, chosen, occurrence)
            )
        for value, out in zip(self._plan.values, self._values, strict=True):
            out[position] = value.allocate(chosen)[0]

    @property
    def is_empty(self) -> bool:
        """Whether all its samples were skipped."""
        return len(self._skipped) == len(self._ids)

    def fail(self, error: BaseException) -> None:
        """End the batch with an error, which `finish` raises."""
        with self._lock:
            self.error = self.error or error
            self.done.set()

    def finish(self) -> Batch:
        """Return the batch, after the stages; raises what any of its jobs raised."""
        if self.error is not None:
            raise self.error
        views = [batch.tensors() for batch in self._batches]
        tables = {
            image.plan.field: batch.parameters.table
            for image, batch in zip(self._plan.images, self._batches, strict=True)
        }
        if self._skipped:
            kept = np.delete(np.arange(len(self._ids)), self._skipped)
            self._drop(kept)
            views = [[_rows(tensor, kept) for tensor in tensors] for tensors in views]
        self._batches = []
        finished: dict[str, Any] = {}
        for image, tensors in zip(self._plan.images, views, strict=True):
            remaining = iter(tensors)
            for output in image.plan.outputs:
                finished[output.name] = output.finish([next(remaining) for _ in output.tensors])
        for value, out in zip(self._plan.values, self._values, strict=True):
            finished[value.name] = value.finish(out, self._plan.device)
        self._values = []
        plan = self._plan
        return make_batch(
            {name: finished[name] for name in plan.names},
            self._ids if plan.with_ids else None,
            tables if plan.with_params else None,
        )

    def _drop(self, kept: np.ndarray) -> None:
        """Keep only some positions."""
        self._ids = self._ids[kept]
        self._values = [
            [out[i] for i in kept] if isinstance(out, list) else out[kept] for out in self._values
        ]
        for batch in self._batches:
            batch.parameters.keep(kept)


def _rows(tensor: torch.Tensor, kept: np.ndarray) -> torch.Tensor:
    """Return some rows of a tensor; on the CPU with NumPy, as torch's own threads do not survive a fork."""
    if tensor.device.type != "cpu":
        return tensor[torch.from_numpy(kept).to(tensor.device)]
    bits = tensor.view(torch.int16) if tensor.dtype == torch.bfloat16 else tensor
    return torch.from_numpy(bits.numpy()[kept]).view(tensor.dtype)
