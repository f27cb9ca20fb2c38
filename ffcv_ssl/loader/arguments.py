"""Validation and copies of the loader's arguments."""

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np

from ffcv_ssl.beton.reader import CHECKS
from ffcv_ssl.errors import PipelineError
from ffcv_ssl.loader.order.epoch_order import OrderOption
from ffcv_ssl.loader.render.boxes import DECODES
from ffcv_ssl.loader.render.cache import CACHES

logger = logging.getLogger("ffcv_ssl")

MINIMUMS = {
    "batch_size": 1,
    "num_workers": -1,
    "batches_ahead": 1,
    "rank": 0,
    "world_size": 1,
    "shuffle_bytes": 1,
}
CHOICES = {
    "on_error": ("raise", "skip", "substitute"),
    "cache": CACHES,
    "decode": DECODES,
    "check": CHECKS,
}


def check_arguments(path: str, arguments: Mapping[str, Any]) -> None:
    """Check that the arguments of a loader are in range and consistent with each other.

    Parameters
    ----------
    path
        Path of the file, for messages.
    arguments
        All arguments of `Loader`, by name.

    Raises
    ------
    PipelineError
        If an argument is out of range or contradicts another one.
    """
    for name, minimum in MINIMUMS.items():
        value = arguments[name]
        if not isinstance(value, (int, np.integer)) or value < minimum:
            raise PipelineError(f"{path}: {name} must be an integer >= {minimum}, got {value!r}.")
    for name, choices in CHOICES.items():
        if arguments[name] not in choices:
            raise PipelineError(
                f"{path}: {name} must be one of {', '.join(choices)}, got {arguments[name]!r}."
            )
    order = arguments["order"]
    if not isinstance(order, OrderOption):
        options = ", ".join(f"OrderOption.{option.name}" for option in OrderOption)
        raise PipelineError(f"{path}: order must be one of {options}, got {order!r}.")
    _check_ranks(path, arguments)
    _check_sampling(path, arguments)
    if arguments["decode"] == "fast":
        logger.warning(
            "%s: decode='fast' produces other pixels than the exact decode; "
            "they differ by 3 to 11 gray levels on average.",
            path,
        )


def _check_ranks(path: str, arguments: Mapping[str, Any]) -> None:
    """Check that all ranks can share one order and batches of one size."""
    rank, world_size = arguments["rank"], arguments["world_size"]
    if rank >= world_size:
        raise PipelineError(
            f"{path}: rank must be in 0..world_size - 1, got rank={rank}, world_size={world_size}."
        )
    if arguments["on_error"] == "skip" and world_size > 1:
        raise PipelineError(
            f"{path}: on_error='skip' would give the ranks batches of different sizes; "
            "use on_error='substitute'."
        )
    if arguments["seed"] is None and world_size > 1:
        raise PipelineError(
            f"{path}: the {world_size} ranks need the same seed; without one, "
            "each rank would draw another order."
        )


def _check_sampling(path: str, arguments: Mapping[str, Any]) -> None:
    """Check that at most one option selects samples at random, and that the order allows it."""
    given = [name for name in ("weights", "balanced") if arguments[name] is not None]
    if len(given) > 1:
        raise PipelineError(
            f"{path}: give weights or balanced, not both; balanced computes the weights."
        )
    if given and arguments["order"] is OrderOption.SEQUENTIAL:
        raise PipelineError(
            f"{path}: {given[0]} draws samples at random, which OrderOption.SEQUENTIAL does not "
            "allow; use OrderOption.RANDOM, or QUASI_RANDOM for a file larger than memory."
        )


def copy_arguments(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments with copies of their mappings and pipelines, which a caller may change.

    Parameters
    ----------
    arguments
        All arguments of `Loader`, by name.

    Returns
    -------
    dict
        Copies of mappings and of lists of transforms; the transforms themselves are shared.
    """
    copies = {
        name: dict(value) if isinstance(value, Mapping) else value
        for name, value in arguments.items()
    }
    copies["pipelines"] = {
        name: list(pipeline) if isinstance(pipeline, list) else pipeline
        for name, pipeline in copies["pipelines"].items()
    }
    return copies


def explain_emptiness(num_samples: int, batch_size: int, world_size: int) -> str:
    """Return why an epoch has no batches, and what to do.

    Parameters
    ----------
    num_samples
        Number of selected samples.
    batch_size, world_size
        Arguments of `Loader`.

    Returns
    -------
    str
        Two sentences for a warning.
    """
    reason = f"{num_samples} samples, batch_size={batch_size}"
    reason += f", world_size={world_size}" if world_size > 1 else ""
    if num_samples == 0:
        return f"{reason}. Select at least one sample."
    return f"{reason}, drop_last=True. Lower batch_size or pass drop_last=False."
