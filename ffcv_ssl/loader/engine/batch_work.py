"""Preparation of one batch.

A worker thread draws the parameters of the batch, the worker threads render it in chunks, and the
consumer's thread finishes it.
"""

import logging
import threading
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ffcv_ssl.errors import PipelineError, SampleError
from ffcv_ssl.loader.batch import Batch, make_batch
from ffcv_ssl.loader.engine.batch_plan import BatchPlan
from ffcv_ssl.loader.engine.buffers import BufferPool
from ffcv_ssl.loader.engine.threads import Engine
from ffcv_ssl.loader.order.epoch_order import EpochStep
from ffcv_ssl.loader.render.renderer import RenderedBatch

logger = logging.getLogger("ffcv_ssl")

MAX_CHUNK = 32  # samples; more only if CHUNK_PIXELS requires them
CHUNKS_PER_THREAD = 4  # in a batch, so that no thread waits long for the slowest
# Pixels of views in a chunk, about 4 ms of work. Starting a chunk takes 40 to 70 us, during which
# no other thread can start one.
CHUNK_PIXELS = 400_000
MAX_SUBSTITUTES = 100  # consecutive unreadable samples after which a position fails


def chunk_size(count: int, num_pixels: int, num_threads: int) -> int:
    """Return how many samples of a batch a thread processes at a time.

    A chunk has at least `CHUNK_PIXELS` pixels, unless some threads would then have no chunk. Larger
    chunks are used only if every thread still has several of them.

    Parameters
    ----------
    count
        Number of samples of the batch.
    num_pixels
        Work per sample, in pixels of views.
    num_threads
        Number of threads, >= 1.

    Returns
    -------
    int
        Number of samples, >= 1.
    """
    minimum = -(-CHUNK_PIXELS // max(num_pixels, 1))
    per_thread = -(-count // num_threads)
    balanced = min(MAX_CHUNK, -(-per_thread // CHUNKS_PER_THREAD))
    return max(1, min(minimum, per_thread), balanced)


class BatchWork:
    """One batch in preparation.

    Its first job is `draw_and_queue`, which queues one job per chunk.

    Parameters
    ----------
    plan
        Contents of the batch.
    step
        Samples of the batch, and their occurrence numbers.
    engine
        Worker threads.
    pool
        Memory for batches.
    owner
        Owner of the jobs, see `Engine.submit`.

    Attributes
    ----------
    done
        Event that is set when all chunks are rendered, or one has failed.
    error
        First error of a job, or None.
    """

    def __init__(
        self, plan: BatchPlan, step: EpochStep, engine: Engine, pool: BufferPool, owner: object
    ):
        self.done = threading.Event()
        self.error: BaseException | None = None
        self._plan, self._step = plan, step
        self._ids, self._occurrences = step.sample_ids(), step.occurrences()
        self._engine, self._pool, self._owner = engine, pool, owner
        self._lock = threading.Lock()
        self._batches: list[RenderedBatch] = []  # one per image field
        self._values: list[Any] = []  # one per other field
        self._skipped: list[int] = []  # positions in the batch
        self._num_remaining = 0  # chunks

    def draw_and_queue(self) -> None:
        """Draw all parameters, allocate memory, and queue the chunks before all other jobs."""
        try:
            for image in self._plan.images:
                parameters = image.draw(
                    self._plan.seed, self._step.epoch, self._ids, self._occurrences
                )
                self._batches.append(image.allocate(parameters, self._pool))
            self._values = [value.allocate(self._ids) for value in self._plan.values]
            count = len(self._ids)
            chunk = chunk_size(count, self._plan.num_pixels, max(self._engine.num_workers, 1))
            starts = range(0, count, chunk)
            self._num_remaining = len(starts)
            jobs = [partial(self._run_chunk, start, min(start + chunk, count)) for start in starts]
            self._engine.submit(self._owner, jobs, first=True)
        except MemoryError as error:
            self.fail(
                PipelineError(
                    f"not enough memory for a batch of {len(self._ids)} samples ({error}); "
                    "use a smaller batch_size or batches_ahead."
                )
            )
        except BaseException as error:  # `finish` raises it in the consumer's thread
            self.fail(error)

    def _run_chunk(self, start: int, stop: int) -> None:
        """Produce samples [start, stop) of the batch; the job of a thread."""
        try:
            if self.error is None:
                self._fill_or_recover(start, stop)
        except BaseException as error:  # `finish` raises it in the consumer's thread
            self.fail(error)
            return
        with self._lock:
            self._num_remaining -= 1
            is_last = self._num_remaining == 0
        if is_last:
            self._seal()

    def _seal(self) -> None:
        """Seal the views after the last chunk; for a GPU, this starts the copy of the images."""
        try:
            if self.error is None and not self.is_empty:
                for batch in self._batches:
                    batch.seal()
            self.done.set()
        except BaseException as error:  # `finish` raises it in the consumer's thread
            self.fail(error)

    def _fill(self, start: int, stop: int) -> None:
        """Read, decode and render samples [start, stop)."""
        ids = self._ids[start:stop]
        for image, batch in zip(self._plan.images, self._batches, strict=True):
            image.fill(batch, ids, start)
        for value, out in zip(self._plan.values, self._values, strict=True):
            value.read(ids, out, start)

    def _fill_or_recover(self, start: int, stop: int) -> None:
        """Fill a chunk; skip or substitute its unreadable samples as `on_error` says."""
        try:
            self._fill(start, stop)
        except SampleError:
            if self._plan.on_error == "raise":
                raise
            for position in range(start, stop):
                self._fill_or_replace(position)

    def _fill_or_replace(self, position: int) -> None:
        """Fill one position with its sample or a substitute, or mark it as skipped."""
        last_error: SampleError | None = None
        for sample_id in self._candidates(position):
            try:
                if sample_id != self._ids[position]:
                    self._replace(position, sample_id)
                self._fill(position, position + 1)
            except SampleError as error:
                last_error = error
                # A new error without frames, which would keep memory alive.
                failure = SampleError(str(error), error.sample_id, error.field)
                self._plan.failures.append(failure)
                action = "skipped" if self._plan.on_error == "skip" else "substituted"
                logger.warning("%s (%s)", error, action)
            else:
                return
        if self._plan.on_error == "substitute":
            raise SampleError(
                "no readable sample follows in the order to substitute a damaged one; "
                f"last error: {last_error}"
            )
        self._skipped.append(position)

    def _candidates(self, position: int) -> Iterator[int]:
        """Yield the sample of a position, then its substitutes."""
        candidates = [int(self._ids[position])]
        if self._plan.on_error == "substitute":
            candidates += self._step.substitutes(position, MAX_SUBSTITUTES).tolist()
        yield from dict.fromkeys(candidates)

    def _replace(self, position: int, sample_id: int) -> None:
        """Put another sample at a position, with parameters that no other position has."""
        ids = np.array([sample_id])
        occurrence = self._step.extra_occurrence(position)
        self._ids[position] = sample_id
        for image, batch in zip(self._plan.images, self._batches, strict=True):
            parameters = image.draw(self._plan.seed, self._step.epoch, ids, occurrence)
            batch.parameters.replace(position, parameters)
        for value, out in zip(self._plan.values, self._values, strict=True):
            out[position] = value.allocate(ids)[0]

    @property
    def is_empty(self) -> bool:
        """Whether all samples were skipped."""
        return len(self._skipped) == len(self._ids)

    def fail(self, error: BaseException) -> None:
        """End the batch with an error, which `finish` raises."""
        with self._lock:
            self.error = self.error or error
            self.done.set()

    def finish(self) -> Batch:
        """Return the finished batch; called once, in the consumer's thread.

        Returns
        -------
        Batch
            All fields, after their stages.

        Raises
        ------
        BaseException
            The first error that a job of the batch raised.
        """
        if self.error is not None:
            raise self.error
        plan = self._plan
        views = [batch.tensors() for batch in self._batches]
        if self._skipped:
            kept = np.delete(np.arange(len(self._ids)), self._skipped)
            self._keep(kept)
            views = [[_select_rows(tensor, kept) for tensor in tensors] for tensors in views]
        tables = {
            image.plan.field: batch.parameters.table
            for image, batch in zip(plan.images, self._batches, strict=True)
        }
        self._batches = []
        finished: dict[str, Any] = {}
        for image, tensors in zip(plan.images, views, strict=True):
            remaining = iter(tensors)
            for output in image.plan.outputs:
                finished[output.name] = output.finish([next(remaining) for _ in output.tensors])
        for value, out in zip(plan.values, self._values, strict=True):
            finished[value.name] = value.finish(out, plan.device)
        self._values = []
        return make_batch(
            {name: finished[name] for name in plan.names},
            self._ids if plan.with_ids else None,
            tables if plan.with_params else None,
        )

    def _keep(self, kept: NDArray[np.int64]) -> None:
        """Drop all other positions from ids, values and parameter tables."""
        self._ids = self._ids[kept]
        self._values = [
            [out[i] for i in kept] if isinstance(out, list) else out[kept] for out in self._values
        ]
        for batch in self._batches:
            batch.parameters.keep(kept)


def _select_rows(tensor: torch.Tensor, kept: NDArray[np.int64]) -> torch.Tensor:
    """Return some rows of a tensor; NumPy selects them, as torch's threads do not survive forks."""
    if tensor.device.type != "cpu":
        return tensor[torch.from_numpy(kept).to(tensor.device)]
    bits = tensor.view(torch.int16) if tensor.dtype == torch.bfloat16 else tensor
    return torch.from_numpy(bits.numpy()[kept]).view(tensor.dtype)
