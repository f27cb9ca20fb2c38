"""One pass over the samples."""

import time
from collections import deque
from dataclasses import dataclass

from ffcv_ssl.beton.reader import BetonReader
from ffcv_ssl.errors import LoaderClosed, PipelineError
from ffcv_ssl.loader.batch import Batch
from ffcv_ssl.loader.engine.batch_work import BatchPlan, BatchWork
from ffcv_ssl.loader.engine.buffers import BufferPool
from ffcv_ssl.loader.engine.threads import Engine
from ffcv_ssl.loader.order.epoch_order import EpochOrder, EpochPosition
from ffcv_ssl.loader.order.page_order import ReadAhead


@dataclass
class Progress:
    """Where the consumer is.

    Parameters
    ----------
    epoch, position
        Behind the last batch that was handed out, in the order of all ranks.
    wait_s
        Seconds that the consumer has waited for batches in this epoch.
    """

    epoch: int = 0
    position: int = 0
    wait_s: float = 0.0


@dataclass(frozen=True)
class Delivery:
    """What all epochs of a loader have in common.

    Parameters
    ----------
    reader
        The open file.
    plan
        What a batch is made of.
    pool
        Memory of batches.
    batch_size, rank, world_size, batches_ahead
        See `Loader`.
    """

    reader: BetonReader
    plan: BatchPlan
    pool: BufferPool
    batch_size: int
    rank: int
    world_size: int
    batches_ahead: int

    @property
    def step(self) -> int:
        """Samples that all ranks take at once."""
        return self.batch_size * self.world_size


class EpochIterator:
    """Keeps a few batches ahead of its one consumer. Dropping it, or `close()`, forgets what is not yet rendered.

    Parameters
    ----------
    delivery
        What batches are made of.
    engine
        The threads.
    order
        Of the samples of all ranks.
    epoch, position
        Where to begin.
    num_steps
        Batches to hand out.
    progress
        Kept up to date.
    loader
        Kept alive while this iterator is.
    """

    def __init__(
        self,
        delivery: Delivery,
        engine: Engine,
        order: EpochOrder,
        epoch: int,
        position: int,
        num_steps: int,
        progress: Progress,
        loader: object,
    ):
        self._delivery, self._engine, self._order = delivery, engine, order
        self._epoch, self._progress, self._loader = epoch, progress, loader
        self._position = position  # of the next batch to hand out, in the global order
        self._ahead = position  # of the next batch to queue
        self._end = position + num_steps * delivery.step
        self._pending: deque[BatchWork] = deque()  # the first is the one that is waited for
        self._owner = object()
        self._read_ahead = (
            ReadAhead(delivery.reader, order.schedule, position)
            if order.schedule is not None
            else None
        )
        self._top_up()

    def _top_up(self) -> None:
        """Queue batches until enough are ahead."""
        delivery = self._delivery
        while self._ahead < self._end and len(self._pending) < delivery.batches_ahead:
            stop = self._ahead + delivery.step
            place = EpochPosition(
                self._epoch, self._order, self._ahead, stop, delivery.rank, delivery.world_size
            )
            work = BatchWork(delivery.plan, place, self._engine, delivery.pool, self._owner)
            self._pending.append(work)
            self._ahead = stop
            pages = self._read_ahead.advance(self._ahead) if self._read_ahead else []
            self._engine.submit(self._owner, [work.open, *pages])

    def __iter__(self) -> "EpochIterator":
        return self

    def __next__(self) -> Batch:
        while self._pending:
            batch = self._take()
            if batch is not None:
                return batch
        raise StopIteration

    def _take(self) -> Batch | None:
        """Wait for the next batch and hand it out; None if all its samples were skipped."""
        started = time.perf_counter()
        try:
            work = self._pending[0]
            self._engine.wait(work.done)
            self._progress.wait_s += time.perf_counter() - started
            batch = None if work.is_empty else work.finish()
        except StopIteration as error:  # it would look like the end of the epoch
            self.close()
            raise PipelineError(
                f"{self._delivery.reader.path}: a stage raised StopIteration."
            ) from error
        except BaseException:
            self.close()
            raise
        if self._pending:  # another thread may have closed the epoch
            self._pending.popleft()
        self._position += self._delivery.step
        is_finished = self._position >= self._end
        self._progress.epoch, self._progress.position = (
            (self._epoch + 1, 0) if is_finished else (self._epoch, self._position)
        )
        self._top_up()
        return batch

    def close(self) -> None:
        """Forget all batches that were not handed out; a thread that waits for one gets LoaderClosed."""
        self._ahead = self._end
        pending, self._pending = self._pending, deque()
        self._engine.cancel(self._owner)
        for work in pending:
            work.fail(LoaderClosed(f"{self._delivery.reader.path}: the epoch was closed."))

    def __del__(self):
        if hasattr(self, "_read_ahead"):
            self.close()
