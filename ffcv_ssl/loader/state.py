"""Saved positions, and whether they belong to a loader."""

import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from ffcv_ssl.beton.reader import BetonReader
from ffcv_ssl.errors import CheckpointError
from ffcv_ssl.loader.order.epoch_order import OrderOption, Selection


def fingerprint(reader: BetonReader, selection: Selection) -> str:
    """Return a short text that changes with the file's index, the samples and their weights."""
    indices, weights = selection.indices, selection.weights
    checksum = zlib.crc32(np.ascontiguousarray(indices, "<i8").tobytes())
    drawn = "" if weights is None else f"-{weights.checksum:08x}"
    return f"{reader.fingerprint}-{len(indices)}-{checksum:08x}{drawn}"


def identity(
    reader: BetonReader, selection: Selection, seed: int, order: OrderOption, shuffle_bytes: int
) -> dict[str, Any]:
    """Return all that the order of the samples depends on; a state and the loader that goes on from it have it in common."""
    budget = {"shuffle_bytes": shuffle_bytes} if order is OrderOption.QUASI_RANDOM else {}
    return {
        "format": 1,
        "seed": seed,
        "order": order.value,
        "fingerprint": fingerprint(reader, selection),
    } | budget


def check_state(
    state: Mapping[str, Any], wanted: Mapping[str, Any], num_samples: int, path: str
) -> None:
    """Compare a saved state with a loader.

    Parameters
    ----------
    state
        As `Loader.state_dict` returned it.
    wanted
        The loader's `identity`.
    num_samples
        Samples of an epoch, of all ranks.
    path
        The file, for messages.

    Raises
    ------
    CheckpointError
        If the state belongs to another loader, or is none.
    """
    meanings = {"fingerprint": "file, selection of samples or weights"}
    for key, value in wanted.items():
        if key not in state:
            raise CheckpointError(f"{path}: not a loader state: key {key!r} is missing.")
        if state[key] != value:
            raise CheckpointError(
                f"{path}: the saved state belongs to another {meanings.get(key, key)}: {state[key]!r}, this loader has {value!r}."
            )
    if not 0 <= int(state.get("position", -1)) <= num_samples or int(state.get("epoch", -1)) < 0:
        raise CheckpointError(
            f"{path}: the saved state has no epoch and position inside the epoch."
        )
