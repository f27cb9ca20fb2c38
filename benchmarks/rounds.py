"""Measure a workload: every contestant in its process, taking turns epoch by epoch, so that noise of the machine meets all of them."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from ffcv_ssl.benchmarks.entries import Entry
from ffcv_ssl.benchmarks.images import Images
from ffcv_ssl.benchmarks.process import ContestantLost, ContestantProcess
from ffcv_ssl.benchmarks.workloads import Epochs, Workload

OK, ABSENT, FAILED = "ok", "absent", "failed"
PER_EPOCH = ("start_s", "seconds", "images")


class Turns:
    """One contestant's part in a workload. What goes wrong becomes the status and the reason of its row, and ends its process.

    Attributes
    ----------
    row
        Fit for JSON: key, name, kind, status ("ok", "absent", "failed"), reason, and what the
        contestant said of itself. A list with a number per epoch: `start_s`, seconds from `iter()`
        to the first batch; `seconds` and `images`, of all that came behind it.
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
        """Whether it takes part, so far."""
        return self.row["status"] == OK

    def start(self, workload: Workload, images: Images, epochs: Epochs) -> None:
        """Start the process, build the loader, go through one epoch as warm-up."""
        self.open()
        self.prepare(workload, images, epochs)

    def open(self) -> None:
        """Start the process."""
        try:
            self._process = self._entry.start(self._environment)
        except ContestantLost as error:
            self._stop(ABSENT, str(error))

    def prepare(self, workload: Workload, images: Images, epochs: Epochs) -> None:
        """Build the loader and go through one epoch as warm-up."""
        job = workload.job(images, self.row["workers"], epochs)
        job |= {"loader": dict(self._entry.loader)}
        self.row |= self.ask({"do": "prepare", "job": job})

    def epoch(self) -> None:
        """Go through one epoch and note its numbers."""
        if reply := self.ask({"do": "epoch"}):
            for name in PER_EPOCH:
                self.row[name].append(reply[name])

    def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to a request; empty where there was none, or it was a refusal."""
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
        self.row.update(status=status, reason=reason)
        self.close()


def measure(
    workload: Workload,
    images: Images,
    contestants: Sequence[Entry],
    workers: int,
    epochs: Epochs,
    timeout_s: float,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Let every contestant render one epoch as warm-up and then, in turn, timed ones.

    While one works the others wait for their pipe. One that is absent, fails or exceeds the time limit keeps its row, with the reason.

    Returns
    -------
    dict
        Fit for JSON: the workload, and a row per contestant with its numbers.
    """
    with ExitStack() as resources:
        turns = [Turns(entry, workers, timeout_s) for entry in contestants]
        for turn in turns:
            resources.callback(turn.close)
            turn.start(workload, images, epochs)
            say(f"  {workload.name}: {turn.row['name']}: {turn.row['reason'] or 'ready'}")
        for _ in range(epochs.count):
            for turn in turns:
                turn.epoch()
    return {
        "name": workload.name,
        "title": workload.title,
        "images": images.text,
        "num_images": epochs.num_images(images.count),
        "epoch_s": epochs.seconds,
        "stored": images.count,
        "views": workload.num_views,
        "batch_size": workload.batch_size,
        "rows": [turn.row for turn in turns],
    }
