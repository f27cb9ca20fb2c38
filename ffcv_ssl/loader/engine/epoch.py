"""Iteration over one epoch."""

import time
from collections import deque
from dataclasses import dataclass

from ffcv_ssl.beton.reader import BetonReader
from ffcv_ssl.errors import LoaderClosed, PipelineError
from ffcv_ssl.loader.batch import Batch
from ffcv_ssl.loader.engine.batch_plan import BatchPlan
from ffcv_ssl.loader.engine.batch_work import BatchWork
from ffcv_ssl.loader.engine.buffers import BufferPool
from ffcv_ssl.loader.engine.threads import Engine
from ffcv_ssl.loader.order.epoch_order import EpochOrder, EpochStep
from ffcv_ssl.loader.order.read_ahead import PageReadAhead


@dataclass
class Progress:
    """Position of the consumer.

    Parameters
    ----------
    epoch, position
        Epoch, and position in the order of all ranks, after the last batch that was returned.
    wait_s
        Time that the consumer has waited for batches in this epoch, in seconds.
    """

    epoch: int = 0
    position: int = 0
    wait_s: float = 0.0


@dataclass(frozen=True)
class EpochContext:
    """Objects and settings that all epochs of a loader share.

    Parameters
    ----------
    reader
        The open file.
    plan
        Contents of a batch.
    pool
        Memory for batches.
    batch_size, rank, world_size, batches_ahead
        Arguments of `Loader`.
    """

    reader: BetonReader
    plan: BatchPlan
    pool: BufferPool
    batch_size: int
    rank: int
    world_size: int
    batches_ahead: int

    @property
    def samples_per_step(self) -> int:
        """Number of samples that all ranks together use in one step."""
        return self.batch_size * self.world_size


class EpochIterator:
    """Iterator over the batches of one epoch, for one consumer.

    It keeps some batches ahead of the consumer. `close()`, or deleting the iterator, discards the
    batches that were not returned.

    Parameters
    ----------
    context
        Objects and settings of the loader.
    engine
        Worker threads.
    order
        Order of the epoch, over all ranks.
    num_steps
        Number of batches.
    progress
        Epoch and position where the iteration begins. The iterator updates it.
    loader
        Object that stays alive as long as the iterator does.
    """

    def __init__(
        self,
        context: EpochContext,
        engine: Engine,
        order: EpochOrder,
        num_steps: int,
        progress: Progress,
        loader: object,
    ):
        self._context, self._engine, self._order = context, engine, order
        self._progress, self._loader = progress, loader
        self._epoch, position = progress.epoch, progress.position
        # Positions in the order of all ranks.
        self._next_returned = position
        self._next_queued = position
        self._end = position + num_steps * context.samples_per_step
        self._pending: deque[BatchWork] = deque()  # the consumer waits for the first
        self._owner = object()
        self._read_ahead = None
        if order.schedule is not None:
            self._read_ahead = PageReadAhead(context.reader, order.schedule, position)
        self._queue_batches()

    def _queue_batches(self) -> None:
        """Queue batches until enough of them are pending."""
        context = self._context
        while self._next_queued < self._end and len(self._pending) < context.batches_ahead:
            start, stop = self._next_queued, self._next_queued + context.samples_per_step
            step = EpochStep(
                self._epoch, self._order, start, stop, context.rank, context.world_size
            )
            work = BatchWork(context.plan, step, self._engine, context.pool, self._owner)
            self._pending.append(work)
            self._next_queued = stop
            requests = self._read_ahead.advance(stop) if self._read_ahead else []
            self._engine.submit(self._owner, [work.draw_and_queue, *requests])

    def __iter__(self) -> "EpochIterator":
        return self

    def __next__(self) -> Batch:
        while self._pending:
            batch = self._finish_next()
            if batch is not None:
                return batch
        raise StopIteration

    def _finish_next(self) -> Batch | None:
        """Wait for the next batch and return it; None if all its samples were skipped."""
        started = time.perf_counter()
        try:
            work = self._pending[0]
            self._engine.wait(work.done)
            self._progress.wait_s += time.perf_counter() - started
            batch = None if work.is_empty else work.finish()
        except StopIteration as error:  # would look like the end of the epoch
            self.close()
            raise PipelineError(
                f"{self._context.reader.path}: a stage raised StopIteration."
            ) from error
        except BaseException:
            self.close()
            raise
        if self._pending:  # another thread may have closed the epoch
            self._pending.popleft()
        self._next_returned += self._context.samples_per_step
        if self._next_returned >= self._end:
            self._progress.epoch, self._progress.position = self._epoch + 1, 0
        else:
            self._progress.epoch, self._progress.position = self._epoch, self._next_returned
        self._queue_batches()
        return batch

    def close(self) -> None:
        """Discard all pending batches; a thread that waits for one gets LoaderClosed."""
        self._next_queued = self._end
        pending, self._pending = self._pending, deque()
        self._engine.cancel(self._owner)
        for work in pending:
            work.fail(LoaderClosed(f"{self._context.reader.path}: the epoch was closed."))

    def __del__(self) -> None:
        if hasattr(self, "_read_ahead"):
            self.close()
