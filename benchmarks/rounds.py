"""Measure a workload with every contestant in a process of its own.

The contestants alternate epoch by epoch, so that noise of the machine affects all of them.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from ffcv_ssl.benchmarks.entries import Entry
from ffcv_ssl.benchmarks.images import Images
from ffcv_ssl.benchmarks.process import ContestantLost, ContestantProcess
from ffcv_ssl.benchmarks.workloads import Epochs, Workload

OK, ABSENT, FAILED = "ok", "absent", "failed"
PER_EPOCH = ("start_s", "seconds", "images")


class ContestantRun:
    """One contestant in one workload.

    An error becomes the status and the reason of the row, and ends the process.

    Parameters
    ----------
    entry
        The contestant.
    workers
        Threads or processes, unless the entry sets its own number.
    timeout_s
        Time limit for each reply, seconds.
    environment
        Environment variables to add.

    Attributes
    ----------
    row
        JSON-serializable: key, name, kind, status (`"ok"`, `"absent"`, `"failed"`), reason, and
        what the contestant reports. Lists with one number per epoch: `start_s`, seconds from
        `iter()` to the first batch; `seconds` and `images` after the first batch.
    """

    def __init__(
        self,
        entry: Entry,
        workers: int,
        timeout_s: float,
        environment: Mapping[str, str] | None = None,
    ):
        self.timeout_s = timeout_s
        self.row: dict[str, Any] = {
            "key": entry.key,
            "name": entry.name,
            "kind": entry.kind,
            "workers": entry.workers or workers,
        }
        self.row |= {"status": OK, "reason": "", **{name: [] for name in PER_EPOCH}}
        self._process: ContestantProcess | None = None
        self._entry, self._environment = entry, environment

    @property
    def is_running(self) -> bool:
        """Whether the contestant still takes part."""
        return self.row["status"] == OK

    def start(self, workload: Workload, images: Images, epochs: Epochs) -> None:
        """Start the process, build the loader and run one warm-up epoch."""
        self.open()
        self.prepare(workload, images, epochs)

    def open(self) -> None:
        """Start the process."""
        try:
            self._process = self._entry.start(self._environment)
        except ContestantLost as error:
            self._stop(ABSENT, str(error))

    def prepare(self, workload: Workload, images: Images, epochs: Epochs) -> None:
        """Build the loader and run one warm-up epoch."""
        job = workload.job(images, self.row["workers"], epochs)
        job |= {"loader": dict(self._entry.loader)}
        self.row |= self.ask({"do": "prepare", "job": job})

    def epoch(self) -> None:
        """Run one epoch and record its numbers."""
        if reply := self.ask({"do": "epoch"}):
            for name in PER_EPOCH:
                self.row[name].append(reply[name])

    def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Send a request and return the reply, or an empty dict if the contestant stopped."""
        if self._process is None or not self.is_running:
            return {}
        try:
            reply = self._process.ask(request, self.timeout_s)
        except ContestantLost as error:
            reply = {FAILED: str(error)}
        for status in (ABSENT, FAILED):
            if status in reply:
                self._stop(status, reply[status])
                return {}
        return reply

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.close()
            self._process = None

    def _stop(self, status: str, reason: str) -> None:
        """Record why the contestant stopped, and end its process."""
        self.row.update(status=status, reason=reason)
        self.close()


def measure(
    workload: Workload,
    images: Images,
    contestants: Sequence[Entry],
    workers: int,
    epochs: Epochs,
    timeout_s: float,
    progress: Callable[[str], None],
) -> dict[str, Any]:
    """Measure all contestants: one warm-up epoch each, then alternating timed epochs.

    While one contestant works, the others wait for a request. A contestant that is absent, fails or
    exceeds the time limit keeps its row, with the reason.

    Parameters
    ----------
    workload
        Views and batches to render.
    images
        Images to load.
    contestants
        Contestants to measure.
    workers
        Threads or worker processes per contestant (>= 1).
    epochs
        Number and length of the epochs.
    timeout_s
        Time limit for each reply, seconds.
    progress
        Receives lines of progress.

    Returns
    -------
    dict
        JSON-serializable: the workload, and one row per contestant with its numbers.
    """
    with ExitStack() as resources:
        runs = [ContestantRun(entry, workers, timeout_s) for entry in contestants]
        for run in runs:
            resources.callback(run.close)
            run.start(workload, images, epochs)
            progress(f"  {workload.name}: {run.row['name']}: {run.row['reason'] or 'ready'}")
        for _ in range(epochs.count):
            for run in runs:
                run.epoch()
    return {
        "name": workload.name,
        "title": workload.title,
        "images": images.text,
        "num_images": epochs.num_images(images.count),
        "epoch_s": epochs.seconds,
        "stored": images.count,
        "views": workload.num_views,
        "batch_size": workload.batch_size,
        "rows": [run.row for run in runs],
    }
