"""Saved positions of a loader, and the check that a state belongs to a loader."""

import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from ffcv_ssl.beton.reader import BetonReader
from ffcv_ssl.errors import CheckpointError
from ffcv_ssl.loader.order.epoch_order import OrderOption, Selection

FORMAT = 1  # of saved states
DESCRIPTIONS = {"fingerprint": "file, selection of samples or weights"}  # of keys, for messages


def fingerprint(reader: BetonReader, selection: Selection) -> str:
    """Return a text that depends on the file's index, the selected samples and their weights.

    Parameters
    ----------
    reader
        The open file.
    selection
        The samples of an epoch.

    Returns
    -------
    str
        The file's fingerprint, the number of samples, and hexadecimal CRC-32 checksums of the
        sample ids and, if there are any, of the weights.
    """
    indices, weights = selection.indices, selection.weights
    checksum = zlib.crc32(np.ascontiguousarray(indices, "<i8").tobytes())
    weights_suffix = "" if weights is None else f"-{weights.checksum:08x}"
    return f"{reader.fingerprint}-{len(indices)}-{checksum:08x}{weights_suffix}"


def state_identity(
    reader: BetonReader, selection: Selection, seed: int, order: OrderOption, shuffle_bytes: int
) -> dict[str, Any]:
    """Return the part of a saved state that a loader must share to resume from it.

    Parameters
    ----------
    reader
        The open file.
    selection
        The samples of an epoch.
    seed, order, shuffle_bytes
        Arguments of `Loader`.

    Returns
    -------
    dict
        Everything that determines the order of the samples, as values that JSON can hold.
    """
    identity = {
        "format": FORMAT,
        "seed": seed,
        "order": order.value,
        "fingerprint": fingerprint(reader, selection),
    }
    if order is OrderOption.QUASI_RANDOM:
        identity["shuffle_bytes"] = shuffle_bytes
    return identity


def check_state(
    state: Mapping[str, Any], identity: Mapping[str, Any], num_samples: int, path: str
) -> None:
    """Check that a loader can resume from a saved state.

    Parameters
    ----------
    state
        Return value of `Loader.state_dict`.
    identity
        The loader's `state_identity`.
    num_samples
        Number of samples of an epoch, over all ranks.
    path
        Path of the file, for messages.

    Raises
    ------
    CheckpointError
        If the state belongs to another loader, or is not a loader state.
    """
    for key, value in identity.items():
        if key not in state:
            raise CheckpointError(f"{path}: not a Loader state: key {key!r} is missing.")
        if state[key] != value:
            raise CheckpointError(
                f"{path}: the saved state belongs to another {DESCRIPTIONS.get(key, key)}: "
                f"{state[key]!r}, this loader has {value!r}."
            )
    position, epoch = int(state.get("position", -1)), int(state.get("epoch", -1))
    if not 0 <= position <= num_samples or epoch < 0:
        raise CheckpointError(
            f"{path}: the saved state needs epoch >= 0 and position in 0..{num_samples}, "
            f"got epoch={epoch}, position={position}."
        )
