"""The worker process: receives chunks of a job, encodes them, and sends batches or its failure."""

from __future__ import annotations

import mmap
import multiprocessing
import os
import pickle
import signal
import threading
import traceback
from multiprocessing.connection import Connection, wait
from typing import Any

from ffcv_ssl.beton.writer.encoding import Job, SampleFailed, encode_batches
from ffcv_ssl.beton.writer.transport import WorkerEnd
from ffcv_ssl.system.signals import ENDING_SIGNALS


class WorkerTraceback(Exception):
    """Traceback of an exception in a worker, as text."""


class Failure:
    """A `SampleFailed` that can be pickled.

    The cause is included if it can be pickled, its traceback as text in any case.

    Parameters
    ----------
    failure
        Exception of the worker.
    """

    def __init__(self, failure: SampleFailed) -> None:
        cause = failure.__cause__
        self.arguments = (failure.index, failure.path, failure.reason)
        self.text = "".join(traceback.format_exception(cause)) if cause is not None else ""
        self.pickled_cause = _pickled(cause)

    def to_exception(self) -> SampleFailed:
        """Restore the exception, with that of the dataset or field as its cause."""
        failure = SampleFailed(*self.arguments)
        trace = WorkerTraceback(f"\n{self.text}") if self.text else None
        cause = pickle.loads(self.pickled_cause) if self.pickled_cause is not None else None
        if cause is not None:
            cause.__cause__ = trace
        failure.__cause__ = cause or trace
        return failure


def run_worker(
    inherited_job: Job | None,
    connection: Connection,
    slots: mmap.mmap | None,
    positions: Any,
    worker_index: int,
) -> None:
    """Run a worker until its parent sends None, or a sample fails.

    Parameters
    ----------
    inherited_job
        The job, if the process was forked; otherwise None, and the job is the first message.
    connection
        Pipe to the parent. After the batches of a chunk the worker sends None.
    slots
        Memory from `transport.shared_slots`.
    positions
        Shared array of int64. The worker stores the position of its current sample, so that the
        parent can name it if the worker dies.
    worker_index
        Index of the worker in `positions`.
    """
    # A terminal sends these signals to the whole process group; the parent handles them.
    for number in (signal.SIGINT, *ENDING_SIGNALS):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    job: Job = connection.recv() if inherited_job is None else inherited_job

    def on_start(position: int) -> None:
        positions[worker_index] = position

    end = WorkerEnd(connection, slots)
    while (chunk := end.next_chunk()) is not None:
        try:
            for batch in encode_batches(job, *chunk, on_start):
                end.send(batch)
        except SampleFailed as failure:
            connection.send(Failure(failure))
            return
        connection.send(None)


def _pickled(error: BaseException | None) -> bytes | None:
    """Pickle an exception; return None if it cannot be pickled and restored."""
    if error is None:
        return None
    try:
        data = pickle.dumps(error)
        pickle.loads(data)
    except Exception:  # the class of the exception may raise anything
        return None
    return data


def _exit_with_parent() -> None:
    """End the worker when its parent dies, even if the worker is blocked."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
