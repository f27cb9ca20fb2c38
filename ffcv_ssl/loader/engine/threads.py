"""Worker threads of a loader: jobs run in order, and no global state is used."""

import functools
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence

from ffcv_ssl.errors import LoaderClosed

Job = Callable[[], None]
POLL_S = 1.0  # interval between two checks that the threads are alive
CLOSED = "the loader was closed, or the process forked, while it waited for a batch."


class _JobQueue:
    """Job queue of the threads.

    The threads refer to the queue but not to the engine, so an abandoned loader can be collected.
    """

    def __init__(self) -> None:
        self.jobs: deque[tuple[object, Job]] = deque()  # pairs of owner and job
        self.changed = threading.Condition()
        self.stopped = False

    def run_jobs(self) -> None:
        """Run jobs until the engine stops. Jobs handle their own errors."""
        while True:
            with self.changed:
                while not self.jobs and not self.stopped:
                    self.changed.wait()
                if self.stopped:
                    return
                _, job = self.jobs.popleft()
            job()
            del job  # a waiting thread must not keep a batch alive


class Engine:
    """Fixed number of threads that run jobs in the order of submission.

    Parameters
    ----------
    num_workers
        Number of threads. With 0, the thread that waits for a job runs all jobs.

    Attributes
    ----------
    pid
        Process that started the threads; they do not exist in a forked child.
    """

    def __init__(self, num_workers: int):
        self.num_workers = num_workers
        self.pid = os.getpid()
        self._queue = _JobQueue()
        self._threads = [
            threading.Thread(target=self._queue.run_jobs, name=f"ffcv_ssl-{i}", daemon=True)
            for i in range(num_workers)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, owner: object, jobs: Iterable[Job], first: bool = False) -> None:
        """Queue jobs.

        Parameters
        ----------
        owner
            Object by which `cancel` finds the jobs.
        jobs
            Callables without arguments, in order.
        first
            Whether the jobs run before all queued jobs instead of after them.
        """
        if self.pid != os.getpid():
            return  # the threads, and perhaps a held lock, belong to the process that forked
        entries = [(owner, job) for job in jobs]
        with self._queue.changed:
            if self._queue.stopped:
                return
            if first:
                self._queue.jobs.extendleft(reversed(entries))
            else:
                self._queue.jobs.extend(entries)
            self._queue.changed.notify(len(entries))

    def run(self, jobs: Sequence[Job]) -> None:
        """Run jobs before all queued jobs, and wait for them.

        Parameters
        ----------
        jobs
            Callables without arguments. After an error, the remaining jobs do not run.

        Raises
        ------
        BaseException
            The first error that a job raised.
        LoaderClosed
            If the engine was stopped, or its threads are gone.
        """
        done, lock, num_remaining = threading.Event(), threading.Lock(), len(jobs)
        errors: list[BaseException] = []

        def run_and_count(job: Job) -> None:
            nonlocal num_remaining
            try:
                if not errors:
                    job()
            except BaseException as error:
                errors.append(error)
            with lock:
                num_remaining -= 1
                if num_remaining == 0:
                    done.set()

        if jobs:
            self.submit(done, [functools.partial(run_and_count, job) for job in jobs], first=True)
            self.wait(done)
        if errors:
            raise errors[0]

    def cancel(self, owner: object) -> None:
        """Remove the queued jobs of an owner; jobs that are running continue."""
        if self.pid != os.getpid():
            return
        with self._queue.changed:
            previous = self._queue.jobs
            self._queue.jobs = deque(entry for entry in previous if entry[0] is not owner)
        del previous  # batches are freed outside the lock

    def wait(self, done: threading.Event) -> None:
        """Wait for an event; without threads, run jobs until it is set.

        Parameters
        ----------
        done
            Event that a job sets.

        Raises
        ------
        LoaderClosed
            If the engine was stopped, or its threads are gone.
        """
        if self.num_workers == 0:
            self._run_until(done)
        while not done.wait(POLL_S):
            is_alive = any(thread.is_alive() for thread in self._threads)
            if self._queue.stopped or self.pid != os.getpid() or not is_alive:
                raise LoaderClosed(CLOSED)

    def _run_until(self, done: threading.Event) -> None:
        """Run jobs in the calling thread until an event is set."""
        while not done.is_set():
            with self._queue.changed:
                if self._queue.stopped or self.pid != os.getpid():
                    raise LoaderClosed(CLOSED)
                job = self._queue.jobs.popleft()[1] if self._queue.jobs else None
            if job is None:
                done.wait(POLL_S)  # another thread of the caller runs the job
            else:
                job()

    def stop(self, timeout_s: float = 10.0) -> None:
        """Remove all queued jobs, and wait for the running jobs to end.

        Parameters
        ----------
        timeout_s
            Longest time to wait, in seconds.
        """
        if self.pid != os.getpid():
            return
        with self._queue.changed:
            self._queue.stopped = True
            previous, self._queue.jobs = self._queue.jobs, deque()
            self._queue.changed.notify_all()
        del previous  # batches are freed outside the lock
        deadline = time.monotonic() + timeout_s
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(max(0.0, deadline - time.monotonic()))
