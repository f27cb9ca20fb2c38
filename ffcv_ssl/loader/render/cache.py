"""Where the decoded images live between epochs: nowhere (the file stays in the page cache), in host memory, or on the GPU."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ffcv_ssl.codecs.limits import max_pixels
from ffcv_ssl.errors import PipelineError
from ffcv_ssl.fields.image import MODE_RAW

logger = logging.getLogger("ffcv_ssl")
CACHES = ("os", "ram", "device", "auto")
AUTO_SHARE = 0.5  # of the available memory that "auto" takes at most
CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class ImageCache:
    """Decoded images of one field: in host memory filled as the samples are met, by any thread; on the GPU before the first batch.

    Parameters
    ----------
    memory
        uint8, one image after the other; empty where nothing is kept there. The system gives its pages when they are first written.
    offsets
        (num_samples,) int64 offset of each image in `memory`, -1 for those that are not kept there.
    cached
        (num_samples,) uint8, whether the image is in `memory`.
    device_offsets
        (num_samples,) int64 offset of each image on the GPU, -1 for those that are not kept there; None: none is.
    """

    memory: np.ndarray
    offsets: np.ndarray
    cached: np.ndarray
    device_offsets: np.ndarray | None = None


def plan_cache(
    cache: str,
    sizes: np.ndarray,
    modes: np.ndarray,
    indices: np.ndarray,
    num_processes: int,
    where: str,
    available: Callable[[], int] | None = None,
    device_available: Callable[[], int] | None = None,
) -> ImageCache:
    """Decide whether the decoded images of a field stay in memory.

    Parameters
    ----------
    cache
        "os": no, the file's bytes stay in the system's page cache. "ram": yes. "device": on the GPU that renders them. "auto": "device"
        if a GPU renders and all decoded images take at most half of its free memory; else "ram" where JPEGs would be decoded in every epoch
        and take at most half of the available memory.
    sizes, modes
        (num_samples, 2) heights and widths and (num_samples,) modes of the stored images.
    indices
        Samples that the loader reads.
    num_processes
        Processes that keep a cache of their own.
    where
        File and field, for messages.
    available
        Tells the memory that may be taken, in bytes. Default: `available_bytes`.
    device_available
        Tells the free memory of the GPU that renders; None: the CPU renders.

    Raises
    ------
    PipelineError
        If "ram" or "device" does not fit into the available memory, or no GPU renders under "device".
    """
    kept = np.unique(indices)
    kept = kept[
        sizes[kept].astype(np.int64).prod(axis=1) <= max_pixels()
    ]  # reading one of the others is an error
    num_bytes = 3 * sizes[kept].astype(np.int64).prod(axis=1)
    total = int(num_bytes.sum())
    offsets = np.full(len(sizes), -1, np.int64)
    nothing = np.empty(0, np.uint8), offsets, np.zeros(len(sizes), np.uint8)
    if cache == "device" and device_available is None:
        raise PipelineError(
            f"{where}: cache='device' is for views that a GPU renders; put ToDevice('cuda') before the transforms."
        )
    if cache in ("device", "auto") and device_available is not None:
        free = device_available()
        if cache == "device" and total > free:
            raise PipelineError(
                f"{where}: {total / 1e9:.1f} GB of decoded images do not fit the {free / 1e9:.1f} GB that the GPU has free."
            )
        if cache == "device" or total <= AUTO_SHARE * free:
            logger.info(
                "%s: %.3f GB of decoded images will lie on the GPU (%.1f GB are free).",
                where,
                total / 1e9,
                free / 1e9,
            )
            on_device = offsets.copy()
            on_device[kept] = np.cumsum(num_bytes) - num_bytes
            return ImageCache(*nothing, on_device)
    room = (available or available_bytes)() // num_processes if cache != "os" else 0
    if cache == "ram" and total > room:
        raise PipelineError(
            f"{where}: {total / 1e9:.1f} GB of decoded images do not fit the {room / 1e9:.1f} GB of memory that are available to each of "
            f"{num_processes} processes; use cache='os'."
        )
    if cache == "auto":
        fits = total <= AUTO_SHARE * room
        cache = "ram" if fits and (modes[kept] != MODE_RAW).any() else "os"
        logger.info(
            "%s: cache='auto' picked %r for %.1f GB of decoded images (%.1f GB available).",
            where,
            cache,
            total / 1e9,
            room / 1e9,
        )
    if cache == "os":
        return ImageCache(*nothing)
    offsets[kept] = np.cumsum(num_bytes) - num_bytes
    try:
        memory = np.empty(total, np.uint8)
    except MemoryError as error:
        raise PipelineError(
            f"{where}: there is no memory for {total / 1e9:.1f} GB of decoded images; use cache='os'."
        ) from error
    return ImageCache(memory, offsets, np.zeros(len(sizes), np.uint8))


def available_bytes() -> int:
    """Return the memory that this process may still take: that of the machine, or of its cgroup if that is less."""
    free = [_machine_bytes()]
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        try:
            free.append(int((CGROUP / limit).read_text()) - int((CGROUP / used).read_text()))
        except (OSError, ValueError):  # another version of cgroups, or no limit ("max")
            continue
    return max(min(free), 0)


def _machine_bytes() -> int:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(
            int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")
        )
    except (OSError, StopIteration):
        return 4 << 30  # not Linux: a modest guess
