"""The loader's own threads: jobs in order, errors carried, nothing global."""

import functools
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence

from ffcv_ssl.errors import LoaderClosed

Job = tuple[object, Callable[[], None]]  # owner, work
POLL_S = 1.0  # between two looks at whether the threads are alive


class _Queue:
    """What the threads share; they hold no reference to the engine, so that an abandoned loader can be collected."""

    def __init__(self):
        self.jobs: deque[Job] = deque()
        self.changed = threading.Condition()
        self.stopped = False

    def work(self) -> None:
        """Run jobs until the engine stops. Jobs carry their own errors."""
        while True:
            with self.changed:
                while not self.jobs and not self.stopped:
                    self.changed.wait()
                if self.stopped:
                    return
                _, job = self.jobs.popleft()
            job()
            del job  # a thread that waits must not keep a batch alive


class Engine:
    """A fixed set of threads that run jobs in the order of submission.

    Parameters
    ----------
    num_workers
        Number of threads; 0 runs every job in the thread that waits for it.
    """

    def __init__(self, num_workers: int):
        self.num_workers = num_workers
        self.pid = os.getpid()  # threads do not survive a fork
        self._queue = _Queue()
        self._threads = [
            threading.Thread(target=self._queue.work, name=f"ffcv_ssl-{i}", daemon=True)
            for i in range(num_workers)
        ]
        for thread in self._threads:
            thread.start()

    def submit(
        self, owner: object, jobs: Iterable[Callable[[], None]], first: bool = False
    ) -> None:
        """Queue jobs of one owner, behind all others or, in their order, before them."""
        if self.pid != os.getpid():
            return  # the threads, and perhaps a held lock, are those of the process that forked
        entries = [(owner, job) for job in jobs]
        with self._queue.changed:
            if self._queue.stopped:
                return
            if first:
                self._queue.jobs.extendleft(reversed(entries))
            else:
                self._queue.jobs.extend(entries)
            self._queue.changed.notify(len(entries))

    def run(self, jobs: Sequence[Callable[[], None]]) -> None:
        """Run jobs before all others, and wait for them; raises what the first of them raised."""
        done, lock, remaining = threading.Event(), threading.Lock(), [len(jobs)]
        errors: list[BaseException] = []

        def counted(job: Callable[[], None]) -> None:
            try:
                if not errors:
                    job()
            except BaseException as error:
                errors.append(error)
            with lock:
                remaining[0] -= 1
                if remaining[0] == 0:
                    done.set()

        if jobs:
            self.submit(done, [functools.partial(counted, job) for job in jobs], first=True)
            self.wait(done)
        if errors:
            raise errors[0]

    def cancel(self, owner: object) -> None:
        """Forget the jobs of `owner` that no thread has begun."""
        if self.pid != os.getpid():
            return
        with self._queue.changed:
            before = self._queue.jobs
            self._queue.jobs = deque(entry for entry in before if entry[0] is not owner)
        del before  # batches die outside the lock

    def wait(self, done: threading.Event) -> None:
        """Wait until `done` is set; without threads, run jobs until it is.

        Raises
        ------
        LoaderClosed
            If the engine was stopped, or its threads are gone.
        """
        if self.num_workers == 0:
            self._run_until(done)
        while not done.wait(POLL_S):
            if (
                self._queue.stopped
                or self.pid != os.getpid()
                or not any(thread.is_alive() for thread in self._threads)
            ):
                raise LoaderClosed(
                    "the loader was closed, or the process forked, while a batch was waited for."
                )

    def _run_until(self, done: threading.Event) -> None:
        while not done.is_set():
            with self._queue.changed:
                if self._queue.stopped or self.pid != os.getpid():
                    raise LoaderClosed(
                        "the loader was closed, or the process forked, while a batch was waited for."
                    )
                job = self._queue.jobs.popleft()[1] if self._queue.jobs else None
            if job is None:
                done.wait(POLL_S)  # another thread of the caller runs the job
            else:
                job()

    def stop(self, timeout_s: float = 10.0) -> None:
        """Forget all jobs, and wait for the threads to finish the ones they run."""
        if self.pid != os.getpid():
            return
        with self._queue.changed:
            self._queue.stopped = True
            before, self._queue.jobs = self._queue.jobs, deque()
            self._queue.changed.notify_all()
        del before
        deadline = time.monotonic() + timeout_s
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(max(0.0, deadline - time.monotonic()))
