"""One pass over the samples."""

import time
from collections import deque
from typing import TYPE_CHECKING

from ffcv_ssl.errors import LoaderClosed, PipelineError
from ffcv_ssl.loader.batch import Batch
from ffcv_ssl.loader.engine.batch_work import BatchWork
from ffcv_ssl.loader.order.epoch_order import EpochOrder, EpochPosition
from ffcv_ssl.loader.order.page_order import ReadAhead

if TYPE_CHECKING:
    from ffcv_ssl.loader.loader import Loader


class EpochIterator:
    """Keeps a few batches ahead of its one consumer. Dropping it, or `close()`, forgets what is not yet rendered."""

    def __init__(self, loader: "Loader", epoch: int, position: int, order: EpochOrder, num_steps: int):
        self._loader, self._epoch, self._order = loader, epoch, order
        self._position = position  # of the next batch to hand out, in the global order
        self._step = loader.batch_size * loader.world_size
        self._ahead = position  # of the next batch to queue
        self._end = position + num_steps * self._step
        self._pending: deque[BatchWork] = deque()  # the first is the one that is waited for
        self._owner = object()
        self._engine = loader._running_engine()
        self._read_ahead = ReadAhead(loader.reader, order.schedule, position) if order.schedule is not None else None
        self._top_up()

    def _top_up(self) -> None:
        """Queue batches until enough are ahead."""
        loader = self._loader
        while self._ahead < self._end and len(self._pending) < loader.batches_ahead:
            place = EpochPosition(self._epoch, self._order, self._ahead, self._ahead + self._step, loader.rank, loader.world_size)
            work = BatchWork(loader._plan, place, self._engine, loader._pool, self._owner)
            self._pending.append(work)
            self._ahead += self._step
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
            self._loader.wait_s += time.perf_counter() - started
            batch = None if work.is_empty else work.finish()
        except StopIteration as error:  # it would look like the end of the epoch
            self.close()
            raise PipelineError(f"{self._loader.path}: a stage raised StopIteration.") from error
        except BaseException:
            self.close()
            raise
        if self._pending:  # another thread may have closed the epoch
            self._pending.popleft()
        self._position += self._step
        self._loader._advance(self._epoch, self._position, finished=self._position >= self._end)
        self._top_up()
        return batch

    def close(self) -> None:
        """Forget all batches that were not handed out; a thread that waits for one gets LoaderClosed."""
        self._ahead = self._end
        pending, self._pending = self._pending, deque()
        self._engine.cancel(self._owner)
        for work in pending:
            work.fail(LoaderClosed(f"{self._loader.path}: the epoch was closed."))

    def __del__(self):
        if hasattr(self, "_engine"):
            self.close()
