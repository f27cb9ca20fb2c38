"""Saved positions, and whether they belong to a loader."""

import zlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ffcv_ssl.beton.reader import BetonReader
from ffcv_ssl.errors import CheckpointError
from ffcv_ssl.loader.order.epoch_order import OrderOption, Selection

if TYPE_CHECKING:
    from ffcv_ssl.loader.loader import Loader


def fingerprint(reader: BetonReader, selection: Selection) -> str:
    """Return a short text that changes with the file's index, the samples and their weights."""
    indices, weights = selection.indices, selection.weights
    checksum = zlib.crc32(np.ascontiguousarray(indices, "<i8").tobytes())
    drawn = "" if weights is None else f"-{weights.checksum:08x}"
    return f"{reader.fingerprint}-{len(indices)}-{checksum:08x}{drawn}"


def identity(loader: "Loader") -> dict[str, Any]:
    """Return what a state and the loader that goes on from it have in common: all that the order of the samples depends on."""
    budget = {"shuffle_bytes": loader.shuffle_bytes} if loader.order is OrderOption.QUASI_RANDOM else {}
    origin = {"fingerprint": fingerprint(loader.reader, loader._selection)}
    return {"format": 1, "seed": loader.seed, "order": loader.order.value} | origin | budget


def check_state(state: Mapping[str, Any], loader: "Loader") -> None:
    """Raise CheckpointError, with both values, where a state does not belong to `loader`."""
    meanings = {"fingerprint": "file, selection of samples or weights"}
    for key, value in identity(loader).items():
        if key not in state:
            raise CheckpointError(f"{loader.path}: the saved loader state has no {key!r}; it is not one.")
        if state[key] != value:
            raise CheckpointError(
                f"{loader.path}: the saved state belongs to another {meanings.get(key, key)}: {state[key]!r}, this loader has {value!r}."
            )
    if not 0 <= int(state.get("position", -1)) <= len(loader.indices) or int(state.get("epoch", -1)) < 0:
        raise CheckpointError(f"{loader.path}: the saved state has no epoch and position inside the epoch.")
