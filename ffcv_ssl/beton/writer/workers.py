"""Encoding in several processes; the parent receives batches in file order and detects failures."""

from __future__ import annotations

import multiprocessing
import signal
from collections import defaultdict, deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from multiprocessing.connection import wait
from multiprocessing.context import BaseContext
from multiprocessing.reduction import ForkingPickler
from typing import Any

from ffcv_ssl.beton.writer.encoding import Batch, Job
from ffcv_ssl.beton.writer.transport import ParentEnd, shared_slots
from ffcv_ssl.beton.writer.worker_process import Failure, run_worker
from ffcv_ssl.errors import WriteError

_CHUNKS_PER_WORKER = 2  # one in progress, one waiting
_READ_AHEAD_BYTES = 1 << 26  # limit of batches held for later chunks; other workers wait
_EXIT_SECONDS = 5.0  # time for a worker to end by itself


class _Worker:
    """One worker process as the parent sees it."""

    def __init__(self, job: Job | None, context: Any, index: int, positions: Any) -> None:
        self.connection, worker_connection = context.Pipe()
        slots = shared_slots(context.get_start_method() == "fork")
        self.end = ParentEnd(self.connection, slots)
        self.process = context.Process(
            target=run_worker,
            args=(job, worker_connection, slots, positions, index),
            name=f"beton-writer-{index}",
            daemon=True,
        )
        try:
            self.process.start()
        except BaseException:
            self.connection.close()
            raise
        finally:
            worker_connection.close()
        self.chunks: deque[int] = deque()  # assigned and not finished, in ascending order


class WorkerPool:
    """Pool of processes that encode the samples of a job.

    Parameters
    ----------
    job
        Samples to encode.
    num_workers
        Number of processes, >= 1.
    chunk_size
        Number of samples assigned to a worker at a time, >= 1.
    context
        Context of `multiprocessing` with the start method.

    Raises
    ------
    WriteError
        If the job cannot be pickled, or this process must not start others.
    """

    def __init__(self, job: Job, num_workers: int, chunk_size: int, context: BaseContext) -> None:
        self._job, self._chunk_size = job, chunk_size
        if multiprocessing.current_process().daemon:
            raise WriteError(
                "this process is a multiprocessing daemon and cannot start workers; "
                "use num_workers=0."
            )
        self._forks = context.get_start_method() == "fork"
        # Current position of each worker, to name its sample if it dies.
        self._positions: Any = context.RawArray("q", [-1] * num_workers)
        self._workers: list[_Worker] = []
        pickled_job = None if self._forks else _pickled_job(job)
        inherited_job = job if self._forks else None
        try:
            for index in range(num_workers):
                self._workers.append(_Worker(inherited_job, context, index, self._positions))
            if pickled_job is not None:
                self._send_job(pickled_job)
        except BaseException:
            self._kill()
            raise

    def batches(self) -> Iterator[Batch]:
        """Yield all samples of the job in file order.

        Yields
        ------
        Batch
            Its bytes are valid until the next batch is requested.

        Raises
        ------
        SampleFailed
            As soon as any sample fails, not only when its turn comes.
        WriteError
            If a worker dies.
        """
        num_chunks = -(-len(self._job.indices) // self._chunk_size)
        waiting: defaultdict[int, deque[Batch]] = defaultdict(deque)
        finished: set[int] = set()
        current, next_chunk, bytes_waiting = 0, 0, 0
        while current < num_chunks:
            next_chunk = self._assign_chunks(next_chunk, num_chunks)
            for worker in self._wait_for_workers(current, bytes_waiting < _READ_AHEAD_BYTES):
                chunk, batch = self._receive(worker)
                if batch is None:
                    finished.add(chunk)
                    continue
                if chunk == current:  # no earlier batch of this chunk is waiting, see below
                    yield batch
                else:
                    waiting[chunk].append(replace(batch, payload=bytes(batch.payload)))
                    bytes_waiting += len(batch.payload)
                worker.end.free(batch)
            while current < num_chunks and (waiting[current] or current in finished):
                while waiting[current]:
                    batch = waiting[current].popleft()
                    bytes_waiting -= len(batch.payload)
                    yield batch
                if current not in finished:
                    break
                finished.remove(current)
                del waiting[current]
                current += 1

    def close(self, at_once: bool) -> None:
        """End the processes.

        Parameters
        ----------
        at_once
            Whether to kill the workers. Otherwise they end by themselves, within a time limit.
        """
        if not at_once:
            for worker in self._workers:
                with suppress(OSError):  # a worker that died after its last sample is no error
                    worker.connection.send(None)
            for worker in self._workers:
                worker.process.join(_EXIT_SECONDS)
        self._kill()

    def _send_job(self, pickled_job: Any) -> None:
        """Send the job through the pipes; `Process` itself would hang if a process has died."""
        for worker in self._workers:
            try:
                worker.connection.send_bytes(pickled_job)
            except OSError as error:
                raise self._death_error(worker) from error

    def _assign_chunks(self, next_chunk: int, num_chunks: int) -> int:
        """Assign chunks to the least busy workers; return the first chunk that is not assigned."""
        while next_chunk < num_chunks:
            worker = min(self._workers, key=lambda each: len(each.chunks))
            if len(worker.chunks) >= _CHUNKS_PER_WORKER:
                break
            start = next_chunk * self._chunk_size
            stop = min(start + self._chunk_size, len(self._job.indices))
            with suppress(OSError):  # the worker has died; its last messages are read first
                worker.connection.send((start, stop))
            worker.chunks.append(next_chunk)
            next_chunk += 1
        return next_chunk

    def _wait_for_workers(self, current: int, may_read_ahead: bool) -> list[_Worker]:
        """Wait for workers that have died or sent a message that may be read now; return them."""
        readable = {
            worker.connection: worker
            for worker in self._workers
            if worker.chunks and (may_read_ahead or worker.chunks[0] == current)
        }
        sentinels = {worker.process.sentinel: worker for worker in self._workers}
        ready = wait([*readable, *sentinels])
        # The messages of a dead worker are read at once: they may contain the reason.
        return list(dict.fromkeys((readable | sentinels)[each] for each in ready))

    def _receive(self, worker: _Worker) -> tuple[int, Batch | None]:
        """Receive a batch of the worker's first chunk; None means that the chunk is finished.

        Raise SampleFailed for a failed sample, and WriteError if the worker has died.
        """
        try:
            message = worker.connection.recv()
            if isinstance(message, Failure):
                raise message.to_exception()
            if message is None:
                return worker.chunks.popleft(), None
            return worker.chunks[0], worker.end.batch(message)
        except (EOFError, OSError) as error:
            raise self._death_error(worker) from error

    def _death_error(self, worker: _Worker) -> WriteError:
        """Return an error that names the worker, its exit status and its sample."""
        worker.process.join(_EXIT_SECONDS)
        name, code = worker.process.name, worker.process.exitcode
        if code is None or code >= 0:
            how = f"ended with exit code {code}"
        else:
            how = f"was killed by {_signal_name(-code)}"
        position = self._positions[self._workers.index(worker)]
        if position < 0:
            guard = " Does the program have an `if __name__ == '__main__'` guard?"
            advice = "" if self._forks else guard
            return WriteError(f"{name} {how} before its first sample.{advice}")
        return WriteError(
            f"sample {self._job.indices[position]}: {name} {how} at or after this sample "
            "(out of memory?)."
        )

    def _kill(self) -> None:
        """Kill all workers; SIGKILL, because a worker that starts could miss another signal."""
        for worker in self._workers:
            worker.process.kill()
        for worker in self._workers:
            worker.process.join()
            worker.connection.close()
            worker.process.close()
        self._workers = []


def _pickled_job(job: Job) -> Any:
    """Pickle a job for a process that does not share memory; raise WriteError if that fails."""
    try:
        return ForkingPickler.dumps(job)
    except Exception as error:  # pickling a dataset may raise anything
        raise WriteError(
            f"the dataset ({type(job.dataset).__name__}) or a field cannot be sent to a new "
            f"process: {error}. Define its class at the top level of a module and open files in "
            "__getitem__, or use num_workers=0."
        ) from error


def _signal_name(number: int) -> str:
    if number in signal.valid_signals() and number < signal.SIGRTMIN:
        return signal.Signals(number).name
    return f"signal {number}"
