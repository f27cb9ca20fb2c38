"""One contestant in a process of its own: requests and replies, one JSON object a line, over standard input and output.

The clock of an epoch has three marks. It starts at `iter()`; the first batch is the end of the
start; `seconds` and `images` count what comes behind the first batch, to the last one. So the start
of an epoch is a number of its own, and the rate is that of work which is under way.

An epoch ends with its last image, or early: with the first batch that comes `epoch_s` seconds or more
behind the first one and is at least the tenth one. Images are counted exactly either way.

Nothing here or beside it imports ffcv_ssl but `ours.py` and `plain_decode.py`: these scripts run in Pythons where it is not installed.
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
LEAST_BATCHES = (
    10  # of an epoch that ends early: half a batch in flight is then a twentieth at most
)


class Absent(Exception):
    """This contestant cannot take part; the text says why."""


class Contestant(Protocol):
    """A loader that can do a job: see `workloads.Workload.job` for what a job holds."""

    lacks: list[str]  # operations of the job that it leaves out
    notes: list[str]  # where it does the same in another way

    def prepare(self, job: dict) -> None:
        """Import what is needed and build the loader; `Absent` if that cannot be."""

    def batches(self) -> Batches:
        """Go through one epoch. A generator: where it is closed early, it ends what is under way."""


def serve(make: Callable[[], Contestant], packages: tuple[str, ...]) -> None:
    """Answer requests until the parent closes the pipe. What libraries print goes to standard error."""
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
    """What a parent may ask for."""

    def __init__(self, make: Callable[[], Contestant], packages: tuple[str, ...]):
        self.contestant, self.packages = make(), packages
        self.consume: Consume = ignore

    def prepare(self, job: dict) -> dict:
        """Build the loader and render its first batch; seconds since the request, torch being imported already.

        The rest of the epoch is warm-up, for `epoch_s` seconds; with 0 nothing else is wanted of
        this process, and it is ended with its loader at work.
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
            go_on(batches, ignore, self.epoch_s, least=0)
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

    def epoch(self) -> dict:
        """Go through one epoch: seconds to its first batch, then seconds and images of the others."""
        began = time.perf_counter()
        batches = self.contestant.batches()
        first, views = next(batches)
        start_s = time.perf_counter() - began
        self.consume(views)
        seconds, images, is_whole = go_on(batches, self.consume, self.epoch_s, LEAST_BATCHES - 1)
        if is_whole and first + images != self.num_images:
            raise RuntimeError(f"an epoch of {first + images} images, not of {self.num_images}")
        return {"start_s": start_s, "seconds": seconds, "images": images}

    def load(self) -> dict:
        """Import ffcv_ssl's loader and nothing else: what an idle process of it takes."""
        import ffcv_ssl.loader  # noqa: F401

        return self.memory()

    def memory(self) -> dict:
        """Resident memory of this process in bytes: now, and at its peak since it began."""
        with open("/proc/self/statm") as statm:
            now = int(statm.read().split()[1]) * resource.getpagesize()
        return {"now": now, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}


def go_on(
    batches: Batches, consume: Consume, limit_s: float, least: int
) -> tuple[float, int, bool]:
    """Take the further batches of an epoch, to its end or to the time limit, then close it.

    Parameters
    ----------
    limit_s
        Seconds after which the epoch ends early.
    least
        Batches to take before that.

    Returns
    -------
    tuple
        Seconds to the last batch taken, images in these batches, whether they are all there are.
    """
    images = number = 0
    seconds = 0.0
    began = time.perf_counter()
    for count, views in batches:
        consume(views)
        images, number, seconds = images + count, number + 1, time.perf_counter() - began
        if seconds >= limit_s and number >= least:
            batches.close()
            return seconds, images, False
    return seconds, images, True


def ignore(views: list[Any]) -> None:
    """Take the views and do nothing."""


def describe(array: Any) -> str:
    """Dtype and shape of an array or tensor: `uint8 (32, 3, 224, 224)`."""
    return f"{str(array.dtype).removeprefix('torch.')} {tuple(array.shape)}"


def need(module: str, hint: str) -> None:
    """Raise `Absent` where a module is not installed."""
    if util.find_spec(module) is None:
        raise Absent(f"no module '{module}' in its Python{hint}")


def installed(name: str) -> str | None:
    """The version of a distribution, or None."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
