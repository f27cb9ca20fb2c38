"""Check the loader's arguments before it opens a file, and keep copies of them."""

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
LOWEST = {
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
    """Raise PipelineError, naming the file, for arguments that are out of range or contradict each other.

    Parameters
    ----------
    path
        The file, for messages.
    arguments
        All arguments of `Loader`, by name.
    """
    for name, lowest in LOWEST.items():
        value = arguments[name]
        if not isinstance(value, (int, np.integer)) or value < lowest:
            raise PipelineError(f"{path}: {name} is an integer >= {lowest}, got {value!r}.")
    for name, allowed in CHOICES.items():
        if arguments[name] not in allowed:
            raise PipelineError(
                f"{path}: {name} is one of {', '.join(allowed)}, got {arguments[name]!r}."
            )
    order = arguments["order"]
    if not isinstance(order, OrderOption):
        options = ", ".join(f"OrderOption.{option.name}" for option in OrderOption)
        raise PipelineError(f"{path}: order is one of {options}, got {order!r}.")
    _check_ranks(path, arguments)
    _check_draws(path, arguments)
    if arguments["decode"] == "fast":
        logger.warning(
            "%s: decode='fast' gives other pixels than the exact decode, 3 to 11 grey levels away on average.",
            path,
        )


def _check_ranks(path: str, arguments: Mapping[str, Any]) -> None:
    """Ranks need one order and batches of one size."""
    rank, world_size = arguments["rank"], arguments["world_size"]
    if rank >= world_size:
        raise PipelineError(
            f"{path}: rank is in 0..world_size - 1, got rank {rank} of {world_size}."
        )
    if arguments["on_error"] == "skip" and world_size > 1:
        raise PipelineError(
            f"{path}: on_error='skip' would give the ranks batches of different sizes; use 'substitute'."
        )
    if arguments["seed"] is None and world_size > 1:
        raise PipelineError(
            f"{path}: give all {world_size} ranks the same seed, or they would read different orders."
        )


def _check_draws(path: str, arguments: Mapping[str, Any]) -> None:
    """Samples can be drawn in one way only, and have no order of their own then."""
    given = [name for name in ("weights", "balanced") if arguments[name] is not None]
    if len(given) > 1:
        raise PipelineError(
            f"{path}: give weights or balanced, not both: balanced computes the weights."
        )
    if given and arguments["order"] is OrderOption.SEQUENTIAL:
        raise PipelineError(
            f"{path}: {given[0]} draws samples at random, so order=OrderOption.SEQUENTIAL means nothing with it; "
            "use OrderOption.RANDOM, or QUASI_RANDOM for a file larger than memory."
        )


def own(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments with copies of their mappings and pipelines, which the caller may change later."""
    copies = {
        name: dict(value) if isinstance(value, Mapping) else value
        for name, value in arguments.items()
    }
    pipelines = copies["pipelines"].items()
    return copies | {
        "pipelines": {
            name: list(value) if isinstance(value, list) else value for name, value in pipelines
        }
    }
