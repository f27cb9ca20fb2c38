"""Encode in several processes; batches come back in the order of the file, and nothing that happens to a worker is lost."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
import traceback
from collections import defaultdict, deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from multiprocessing.context import BaseContext
from multiprocessing.reduction import ForkingPickler
from typing import Any

from ffcv_ssl.beton.writer.encoding import Batch, Job, SampleFailed, encode_batches
from ffcv_ssl.beton.writer.transport import ParentEnd, WorkerEnd, shared_slots
from ffcv_ssl.errors import WriteError
from ffcv_ssl.system.signals import ENDING_SIGNALS

_CHUNKS_PER_WORKER = 2  # one in work, one waiting
_READ_AHEAD_BYTES = (
    1 << 26
)  # results held for later chunks; beyond that their workers wait in their pipes
_EXIT_SECONDS = 5.0  # what a worker gets to end by itself


class WorkerTraceback(Exception):
    """Where in a worker an exception was raised, as text."""


class _Worker:
    """One process as the parent sees it."""

    def __init__(self, job: Job | None, context: Any, number: int, positions: Any):
        self.connection, far_end = context.Pipe()
        slots = shared_slots(context.get_start_method() == "fork")
        self.inbox = ParentEnd(self.connection, slots)
        arguments = job, far_end, slots, positions, number
        self.process = context.Process(
            target=_work, args=arguments, name=f"beton-writer-{number}", daemon=True
        )
        try:
            self.process.start()
        except BaseException:
            self.connection.close()
            raise
        finally:
            far_end.close()
        self.chunks: deque[int] = deque()  # handed out, not finished, in ascending order


class WorkerPool:
    """Processes that encode the samples of a job.

    Parameters
    ----------
    job
        What to encode.
    num_workers
        At least 1.
    chunk_size
        Samples handed to a worker at a time.
    context
        Start method: fork, spawn or forkserver.

    Raises
    ------
    WriteError
        If the job cannot be sent to new processes, or this one may not start any.
    """

    def __init__(self, job: Job, num_workers: int, chunk_size: int, context: BaseContext):
        self._job, self._chunk_size = job, chunk_size
        if multiprocessing.current_process().daemon:
            raise WriteError(
                "this process is a daemon of multiprocessing and may not start others; use num_workers=0."
            )
        self._forks = context.get_start_method() == "fork"
        self._positions: Any = context.RawArray(
            "q", [-1] * num_workers
        )  # what each worker is at, to name it should the worker die
        self._workers: list[_Worker] = []
        pickled_job = None if self._forks else _pickled_job(job)
        try:
            for number in range(num_workers):
                self._workers.append(
                    _Worker(job if self._forks else None, context, number, self._positions)
                )
            if pickled_job is not None:
                self._send_job(pickled_job)
        except BaseException:
            self._end_at_once()
            raise

    def batches(self) -> Iterator[Batch]:
        """Yield all samples of the job in order; the bytes of a batch are valid until the next is asked for.

        Raises
        ------
        SampleFailed
            As soon as one sample fails, in whatever order that happens.
        WriteError
            If a worker ends before its work is done.
        """
        num_chunks = -(-len(self._job.indices) // self._chunk_size)
        waiting: defaultdict[int, deque[Batch]] = defaultdict(deque)
        finished: set[int] = set()
        current, next_chunk, bytes_waiting = 0, 0, 0
        while current < num_chunks:
            next_chunk = self._hand_out(next_chunk, num_chunks)
            for worker in self._with_news(current, bytes_waiting < _READ_AHEAD_BYTES):
                chunk, batch = self._receive(worker)
                if batch is None:
                    finished.add(chunk)
                    continue
                if chunk == current:  # none of its batches waits: see below
                    yield batch
                else:
                    waiting[chunk].append(replace(batch, payload=bytes(batch.payload)))
                    bytes_waiting += len(batch.payload)
                worker.inbox.free(batch)
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
        """End the processes: after their work is done, or at once."""
        if not at_once:
            for worker in self._workers:
                with suppress(OSError):  # one that has died after its last sample did its work
                    worker.connection.send(None)
            for worker in self._workers:
                worker.process.join(_EXIT_SECONDS)
        self._end_at_once()

    def _send_job(self, pickled_job: Any) -> None:
        """Send the job to new processes through our own pipes: what `Process` sends by itself never ends if the process has died."""
        for worker in self._workers:
            try:
                worker.connection.send_bytes(pickled_job)
            except OSError as error:
                raise self._death(worker) from error

    def _hand_out(self, next_chunk: int, num_chunks: int) -> int:
        """Give chunks to the workers with the fewest, until all have their share; return the first chunk that is left."""
        while next_chunk < num_chunks:
            worker = min(self._workers, key=lambda each: len(each.chunks))
            if len(worker.chunks) >= _CHUNKS_PER_WORKER:
                break
            start = next_chunk * self._chunk_size
            with suppress(OSError):  # if the worker has died, what it said before is read first
                worker.connection.send(
                    (start, min(start + self._chunk_size, len(self._job.indices)))
                )
            worker.chunks.append(next_chunk)
            next_chunk += 1
        return next_chunk

    def _with_news(self, current: int, may_read_ahead: bool) -> list[_Worker]:
        """Workers that have sent something which may be read now, or have died; waits for the first."""
        readable = {
            worker.connection: worker
            for worker in self._workers
            if worker.chunks and (may_read_ahead or worker.chunks[0] == current)
        }
        ends = {worker.process.sentinel: worker for worker in self._workers}
        ready = wait([*readable, *ends])
        # The last words of a dead worker are read at once: they may be why it died.
        return list(dict.fromkeys((readable | ends)[each] for each in ready))

    def _receive(self, worker: _Worker) -> tuple[int, Batch | None]:
        """One message: a batch of the worker's first chunk, or (None) that this chunk is done. A failed sample raises."""
        try:
            message = worker.connection.recv()
            if isinstance(message, _Failure):
                raise message.unpacked()
            if message is None:
                return worker.chunks.popleft(), None
            return worker.chunks[0], worker.inbox.batch(message)
        except (EOFError, OSError) as error:
            raise self._death(worker) from error

    def _death(self, worker: _Worker) -> WriteError:
        """Which worker ended, how, and at which sample."""
        worker.process.join(_EXIT_SECONDS)
        code = worker.process.exitcode
        how = (
            f"ended with exit code {code}"
            if code is None or code >= 0
            else f"was killed by {_signal_name(-code)}"
        )
        position = self._positions[self._workers.index(worker)]
        if position < 0:
            advice = (
                ""
                if self._forks
                else " Is the program's main part guarded by `if __name__ == '__main__'`?"
            )
            return WriteError(f"{worker.process.name} {how} before its first sample.{advice}")
        return WriteError(
            f"sample {self._job.indices[position]}: {worker.process.name} {how} at or after this sample (out of memory?)."
        )

    def _end_at_once(self) -> None:
        for worker in self._workers:
            worker.process.kill()  # nothing is lost, and a signal that can be caught might be: by a worker that is just starting
        for worker in self._workers:
            worker.process.join()
            worker.connection.close()
            worker.process.close()
        self._workers = []


class _Failure:
    """A `SampleFailed` on its way to the parent; its cause travels if it can be pickled, its traceback always."""

    def __init__(self, failure: SampleFailed):
        cause = failure.__cause__
        self.arguments = (failure.index, failure.path, failure.reason)
        self.text = "".join(traceback.format_exception(cause)) if cause is not None else ""
        self.pickled_cause = _pickled(cause)

    def unpacked(self) -> SampleFailed:
        """The exception, with the worker's own as its cause."""
        failure = SampleFailed(*self.arguments)
        trace = WorkerTraceback(f"\n{self.text}") if self.text else None
        cause = pickle.loads(self.pickled_cause) if self.pickled_cause is not None else None
        if cause is not None:
            cause.__cause__ = trace
        failure.__cause__ = cause or trace
        return failure


def _pickled_job(job: Job) -> Any:
    """The job as bytes for a process that shares nothing with this one; WriteError if that cannot be."""
    try:
        return ForkingPickler.dumps(job)
    except Exception as error:  # what a dataset holds may raise anything when it is pickled
        raise WriteError(
            f"the dataset ({type(job.dataset).__name__}) or a field cannot be sent to a new process: {error}. "
            "Define its class at the top of a module and open files in __getitem__, or use num_workers=0."
        ) from error


def _signal_name(number: int) -> str:
    return (
        signal.Signals(number).name
        if number in signal.valid_signals() and number < signal.SIGRTMIN
        else f"signal {number}"
    )


def _pickled(error: BaseException | None) -> bytes | None:
    """An exception as bytes, if it survives the way there and back."""
    if error is None:
        return None
    try:
        data = pickle.dumps(error)
        pickle.loads(data)
    except Exception:  # exceptions of others: their classes may do anything here
        return None
    return data


def _work(
    inherited_job: Job | None, connection: Connection, slots: Any, positions: Any, number: int
) -> None:
    """A worker's life: receive the job unless it was inherited by forking, then (start, stop); send batches, then None; None ends it."""
    for each in (
        signal.SIGINT,
        *ENDING_SIGNALS,
    ):  # those of a terminal reach the whole group; the parent decides
        signal.signal(each, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    job: Job = connection.recv() if inherited_job is None else inherited_job

    def begin(position: int) -> None:
        positions[number] = position

    end = WorkerEnd(connection, slots)
    while (chunk := end.next_chunk()) is not None:
        try:
            for batch in encode_batches(job, *chunk, begin):
                end.send(batch)
        except SampleFailed as failure:
            connection.send(_Failure(failure))
            return
        connection.send(None)


def _end_with_parent() -> None:
    """A worker whose parent was killed must not live on, whatever it is waiting for."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
