"""One contestant in a process of its own: requests and replies, one JSON object a line, over standard input and output.

Nothing here or beside it imports ffcv_ssl but `ours.py` and `plain_decode.py`: these scripts run in Pythons where it is not installed.
"""

import json
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator
from importlib import metadata, util
from typing import Any, Protocol

Batch = tuple[int, list[Any]]  # number of images, their views: arrays or tensors


class Absent(Exception):
    """This contestant cannot take part; the text says why."""


class Contestant(Protocol):
    """A loader that can do a job: see `workloads.Workload.job` for what a job holds."""

    lacks: list[str]  # operations of the job that it leaves out
    notes: list[str]  # where it does the same in another way

    def prepare(self, job: dict) -> None:
        """Import what is needed and build the loader; `Absent` if that cannot be."""

    def batches(self) -> Iterator[Batch]:
        """Go through one epoch."""


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
        self.consume: Callable[[list[Any]], None] = ignore

    def prepare(self, job: dict) -> dict:
        """Build the loader and render its first batch; seconds since the request, torch being imported already."""
        self.num_images = job["num_images"]
        began = time.perf_counter()
        self.contestant.prepare(job)
        batches = self.contestant.batches()
        _, views = next(batches)
        first_batch_s = time.perf_counter() - began
        delivered = [describe(array) for array in views]
        for _ in batches:  # the rest of the epoch: another one may not begin before this one has ended
            pass
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
        """Go through one epoch: its seconds and its images."""
        images = 0
        began = time.perf_counter()
        for count, views in self.contestant.batches():
            images += count
            self.consume(views)
        seconds = time.perf_counter() - began
        if images != self.num_images:
            raise RuntimeError(f"an epoch of {images} images, not of {self.num_images}")
        return {"seconds": seconds, "images": images}

    def load(self) -> dict:
        """Import ffcv_ssl's loader and nothing else: what an idle process of it takes."""
        import ffcv_ssl.loader  # noqa: F401

        return self.memory()

    def memory(self) -> dict:
        """Resident memory of this process in bytes: now, and at its peak since it began."""
        with open("/proc/self/statm") as statm:
            now = int(statm.read().split()[1]) * resource.getpagesize()
        return {"now": now, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}


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
