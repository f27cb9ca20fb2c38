"""Where the decoded images live between epochs: nowhere (the file stays in the page cache), or in host memory."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ffcv_ssl.errors import PipelineError
from ffcv_ssl.fields.image import MODE_RAW

logger = logging.getLogger("ffcv_ssl")
CACHES = ("os", "ram", "auto")
AUTO_SHARE = 0.5  # of the available memory that "auto" takes at most
CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class ImageCache:
    """Decoded images of one field; filled as the samples are met, by any thread.

    Parameters
    ----------
    memory
        uint8, one image after the other; empty where nothing is kept. The system gives its pages when they are first written.
    places
        (num_samples,) int64 offset of each image, -1 for those that are not kept.
    cached
        (num_samples,) uint8, whether the image is there.
    """

    memory: np.ndarray
    places: np.ndarray
    cached: np.ndarray


def plan_cache(
    cache: str,
    sizes: np.ndarray,
    modes: np.ndarray,
    indices: np.ndarray,
    share: int,
    where: str,
    available: Callable[[], int] | None = None,
) -> ImageCache:
    """Decide whether the decoded images of a field stay in memory.

    Parameters
    ----------
    cache
        "os": no, the file's bytes stay in the system's page cache. "ram": yes. "auto": "ram" where JPEGs would else be decoded in every
        epoch and all decoded images take at most half of the available memory.
    sizes, modes
        (num_samples, 2) heights and widths and (num_samples,) modes of the stored images.
    indices
        Samples that the loader reads.
    share
        Processes that keep a cache of their own.
    where
        File and field, for messages.
    available
        Tells the memory that may be taken, in bytes. Default: `available_bytes`.

    Raises
    ------
    PipelineError
        If "ram" does not fit into the available memory.
    """
    kept = np.unique(indices)
    num_bytes = 3 * sizes[kept].astype(np.int64).prod(axis=1)
    total = int(num_bytes.sum())
    room = (available or available_bytes)() // share if cache != "os" else 0
    if cache == "ram" and total > room:
        raise PipelineError(
            f"{where}: {total / 1e9:.1f} GB of decoded images do not fit the {room / 1e9:.1f} GB of memory that are available to each of "
            f"{share} processes; use cache='os'."
        )
    if cache == "auto":
        fits = total <= AUTO_SHARE * room
        cache = "ram" if fits and (modes[kept] != MODE_RAW).any() else "os"
        logger.info("%s: cache='auto' picked %r for %.1f GB of decoded images (%.1f GB available).", where, cache, total / 1e9, room / 1e9)
    places = np.full(len(sizes), -1, np.int64)
    if cache == "os":
        return ImageCache(np.empty(0, np.uint8), places, np.zeros(len(sizes), np.uint8))
    places[kept] = np.cumsum(num_bytes) - num_bytes
    return ImageCache(np.empty(total, np.uint8), places, np.zeros(len(sizes), np.uint8))


def available_bytes() -> int:
    """Return the memory that this process may still take: that of the machine, or of its cgroup if that is less."""
    free = [_machine_bytes()]
    for limit, used in (("memory.max", "memory.current"), ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes")):
        try:
            free.append(int((CGROUP / limit).read_text()) - int((CGROUP / used).read_text()))
        except (OSError, ValueError):  # another version of cgroups, or no limit ("max")
            continue
    return max(min(free), 0)


def _machine_bytes() -> int:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        return 4 << 30  # not Linux: a modest guess
