"""Protocol of a contestant's process: one JSON object per line on standard input and output.

The clock of an epoch starts at `iter()`. The time to the first batch is the start of the epoch.
`seconds` and `images` count the batches after the first one. The start is reported separately, and
the rate is that of a loader in steady state.

An epoch ends with its last image, or early: with the first batch that arrives at least `epoch_s`
seconds after the first one and is at least the tenth. The images are counted exactly in both cases.

Of the scripts in this folder only `ours.py` and `plain_decode.py` import ffcv_ssl: the others run
in interpreters where it is not installed.
"""

import json
import os
import resource
import sys
import time
from collections.abc import Callable, Generator
from importlib import metadata, util
from typing import Any, Protocol

Batch = tuple[int, list[Any]]  # number of images, their views: arrays or tensors
Batches = Generator[Batch, None, None]
Consume = Callable[[list[Any]], None]
MIN_BATCHES = 10  # before an early end: half a batch in flight is then at most 5 %


class Absent(Exception):
    """The contestant cannot take part, for the reason in the message."""


class Contestant(Protocol):
    """Loader of a job; `workloads.Workload.job` describes jobs."""

    lacks: list[str]  # operations of the job that the contestant leaves out
    notes: list[str]  # operations that it implements differently

    def prepare(self, job: dict[str, Any]) -> None:
        """Import the packages and build the loader; raise `Absent` if that is impossible."""

    def batches(self) -> Batches:
        """Generate the batches of one epoch. Closing the generator early drains the loader."""


def serve(make: Callable[[], Contestant], packages: tuple[str, ...]) -> None:
    """Answer requests until the parent closes the pipe.

    Output of libraries is redirected to standard error.
    """
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    session = Session(make, packages)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            reply = getattr(session, request.pop("do"))(**request)
        except Absent as error:
            reply = {"absent": str(error)}
        except Exception as error:
            reply = {"failed": f"{type(error).__name__}: {error}"}
        replies.write(json.dumps(reply) + "\n")
        replies.flush()


class Session:
    """Actions that the parent may request."""

    def __init__(self, make: Callable[[], Contestant], packages: tuple[str, ...]):
        self.contestant, self.packages = make(), packages
        self.consume: Consume = ignore

    def prepare(self, job: dict[str, Any]) -> dict[str, Any]:
        """Build the loader and render its first batch; report the seconds since the request.

        torch is already imported. The rest of the epoch is warm-up, for at most `epoch_s` seconds.
        With 0 there is no warm-up, and the parent kills this process next.
        """
        self.num_images, self.epoch_s = job["num_images"], job["epoch_s"]
        began = time.perf_counter()
        self.contestant.prepare(job)
        batches = self.contestant.batches()
        _, views = next(batches)
        first_batch_s = time.perf_counter() - began
        delivered = [describe(array) for array in views]
        self.unfinished = batches
        if self.epoch_s:
            consume_batches(batches, ignore, self.epoch_s, min_batches=0)
        if job.get("train"):
            from training import SimClrStep

            self.consume = SimClrStep(**job["train"])
        return {
            "first_batch_s": first_batch_s,
            "delivers": delivered,
            "lacks": self.contestant.lacks,
            "notes": self.contestant.notes,
            "versions": {name: version for name in self.packages if (version := installed(name))},
        }

    def epoch(self) -> dict[str, Any]:
        """Run one epoch; report the seconds to the first batch, and seconds and images after it."""
        began = time.perf_counter()
        batches = self.contestant.batches()
        first, views = next(batches)
        start_s = time.perf_counter() - began
        self.consume(views)
        seconds, images, is_whole = consume_batches(
            batches, self.consume, self.epoch_s, MIN_BATCHES - 1
        )
        if is_whole and first + images != self.num_images:
            raise RuntimeError(f"the epoch had {first + images} images, expected {self.num_images}")
        return {"start_s": start_s, "seconds": seconds, "images": images}

    def load(self) -> dict[str, Any]:
        """Import only ffcv_ssl's loader; report the memory of the idle process."""
        import ffcv_ssl.loader  # noqa: F401

        return self.memory()

    def memory(self) -> dict[str, Any]:
        """Report the resident memory of this process in bytes: current and peak."""
        with open("/proc/self/statm") as statm:
            now = int(statm.read().split()[1]) * resource.getpagesize()
        return {"now": now, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}


def consume_batches(
    batches: Batches, consume: Consume, limit_s: float, min_batches: int
) -> tuple[float, int, bool]:
    """Consume the remaining batches of an epoch, to its end or to the time limit.

    Parameters
    ----------
    batches
        Remaining batches; closed at the time limit.
    consume
        Called with the views of every batch.
    limit_s
        Seconds after which the epoch ends early.
    min_batches
        Minimum number of batches before that.

    Returns
    -------
    tuple
        Seconds to the last batch consumed, images in these batches, whether the epoch is complete.
    """
    images = number = 0
    seconds = 0.0
    began = time.perf_counter()
    for count, views in batches:
        consume(views)
        images, number, seconds = images + count, number + 1, time.perf_counter() - began
        if seconds >= limit_s and number >= min_batches:
            batches.close()
            return seconds, images, False
    return seconds, images, True


def ignore(views: list[Any]) -> None:
    """Do nothing with the views."""


def describe(array: Any) -> str:
    """Return dtype and shape of an array or tensor, as in `uint8 (32, 3, 224, 224)`."""
    return f"{str(array.dtype).removeprefix('torch.')} {tuple(array.shape)}"


def need(module: str, hint: str) -> None:
    """Raise `Absent` if a module is not installed; `hint` completes the message."""
    if util.find_spec(module) is None:
        raise Absent(f"module '{module}' is not installed in {sys.executable}{hint}")


def installed(name: str) -> str | None:
    """Return the version of an installed distribution, or None."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
