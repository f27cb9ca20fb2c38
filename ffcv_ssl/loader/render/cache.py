"""Placement of decoded images between epochs: nowhere, in host memory, or on the GPU."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ffcv_ssl.codecs.limits import max_pixels
from ffcv_ssl.errors import PipelineError
from ffcv_ssl.fields.image import MODE_RAW

logger = logging.getLogger("ffcv_ssl")

CACHES = ("os", "ram", "device", "auto")
AUTO_FRACTION = 0.5  # of the available memory that "auto" may use
CGROUP = Path("/sys/fs/cgroup")
CGROUP_FILES = (  # limit and usage, for cgroups version 2 and 1
    ("memory.max", "memory.current"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
)
DEFAULT_AVAILABLE = 4 << 30  # bytes, a low guess for systems other than Linux
GB = 1e9


@dataclass(frozen=True)
class ImageCache:
    """Memory for the decoded images of one field.

    Any thread fills host memory when it first decodes a sample. Memory on the GPU is filled before
    the first batch.

    Parameters
    ----------
    memory
        uint8, one image after the other; empty if no image is kept in host memory. The operating
        system provides its pages when they are first written.
    offsets
        (num_samples,) int64 offset of each image in `memory`, -1 for images that are not kept.
    cached
        (num_samples,) uint8, whether `memory` contains the image already.
    device_offsets
        (num_samples,) int64 offset of each image on the GPU, -1 for images that are not kept there.
        None if no image is kept on the GPU.
    """

    memory: NDArray[np.uint8]
    offsets: NDArray[np.int64]
    cached: NDArray[np.uint8]
    device_offsets: NDArray[np.int64] | None = None


def plan_cache(
    cache: str,
    sizes: NDArray[np.integer],
    modes: NDArray[np.uint8],
    indices: NDArray[np.int64],
    num_processes: int,
    where: str,
    available: Callable[[], int] | None = None,
    device_available: Callable[[], int] | None = None,
) -> ImageCache:
    """Decide where to keep the decoded images of a field, and allocate the memory.

    Parameters
    ----------
    cache
        "os": nowhere; the file's bytes stay in the page cache of the operating system. "ram": in
        host memory. "device": on the GPU that renders the views. "auto": as "device" if a GPU
        renders and the images take at most half of its free memory. Otherwise as "ram" if the file
        contains JPEGs and the images take at most half of the available memory, else as "os".
    sizes
        (num_samples, 2) heights and widths of the stored images.
    modes
        (num_samples,) modes of the stored images.
    indices
        Sample ids that the loader reads.
    num_processes
        Number of processes that each keep their own cache.
    where
        File and field, for messages.
    available
        Function that returns the available host memory in bytes. Default: `available_bytes`.
    device_available
        Function that returns the free memory of the GPU that renders, in bytes. None if the CPU
        renders.

    Returns
    -------
    ImageCache
        Memory and offsets.

    Raises
    ------
    PipelineError
        If the images do not fit into the memory that `cache` requires, or `cache` is "device" and
        no GPU renders.
    """
    kept = np.unique(indices)
    # Reading an image with more pixels than the limit is an error, so it needs no memory.
    kept = kept[sizes[kept].astype(np.int64).prod(axis=1) <= max_pixels()]
    num_bytes = 3 * sizes[kept].astype(np.int64).prod(axis=1)
    total = int(num_bytes.sum())
    no_offsets = np.full(len(sizes), -1, np.int64)
    offsets = no_offsets.copy()
    offsets[kept] = np.cumsum(num_bytes) - num_bytes
    no_cache = ImageCache(np.empty(0, np.uint8), no_offsets, np.zeros(len(sizes), np.uint8))

    if cache == "device" and device_available is None:
        raise PipelineError(
            f"{where}: cache='device' needs a GPU that renders the views; "
            "put ToDevice('cuda') before the transforms."
        )
    if cache in ("device", "auto") and device_available is not None:  # noqa: SIM102
        if _choose_device(cache, total, device_available(), where):
            return replace(no_cache, device_offsets=offsets)
    if cache != "os":
        per_process = (available or available_bytes)() // num_processes
        has_jpegs = bool((modes[kept] != MODE_RAW).any())
        cache = _choose_host(cache, total, per_process, num_processes, has_jpegs, where)
    if cache == "os":
        return no_cache
    try:
        return replace(no_cache, memory=np.empty(total, np.uint8), offsets=offsets)
    except MemoryError as error:
        raise PipelineError(
            f"{where}: not enough memory for {total / GB:.1f} GB of decoded images; use cache='os'."
        ) from error


def _choose_device(cache: str, total: int, free: int, where: str) -> bool:
    """Return whether the images are kept on the GPU; PipelineError if "device" does not fit."""
    if cache == "device" and total > free:
        raise PipelineError(
            f"{where}: {total / GB:.1f} GB of decoded images do not fit into the "
            f"{free / GB:.1f} GB of free GPU memory; use cache='ram' or cache='os'."
        )
    if cache == "auto" and total > AUTO_FRACTION * free:
        return False
    logger.info(
        "%s: keeping %.3f GB of decoded images on the GPU (%.1f GB free).",
        where, total / GB, free / GB,
    )  # fmt: skip
    return True


def _choose_host(
    cache: str, total: int, available: int, num_processes: int, has_jpegs: bool, where: str
) -> str:
    """Return "ram" or "os" for the cache "ram" or "auto"; PipelineError if "ram" does not fit."""
    if cache == "ram":
        if total > available:
            raise PipelineError(
                f"{where}: {total / GB:.1f} GB of decoded images do not fit into the "
                f"{available / GB:.1f} GB of memory available to each of {num_processes} "
                "processes; use cache='os'."
            )
        return cache
    choice = "ram" if has_jpegs and total <= AUTO_FRACTION * available else "os"
    logger.info(
        "%s: cache='auto' chose %r for %.1f GB of decoded images (%.1f GB available).",
        where, choice, total / GB, available / GB,
    )  # fmt: skip
    return choice


def available_bytes() -> int:
    """Return the memory that this process can still use, in bytes.

    Returns
    -------
    int
        Available memory of the machine, or of the process's cgroup if that is less.
    """
    available = [_machine_bytes()]
    for limit, usage in CGROUP_FILES:
        try:
            limit_bytes = int((CGROUP / limit).read_text())
            available.append(limit_bytes - int((CGROUP / usage).read_text()))
        except (OSError, ValueError):  # the other version of cgroups, or no limit ("max")
            continue
    return max(min(available), 0)


def _machine_bytes() -> int:
    """Return the available memory of the machine, in bytes."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        available = next(line for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        return DEFAULT_AVAILABLE
    return int(available.split()[1]) * 1024
