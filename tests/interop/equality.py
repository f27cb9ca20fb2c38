"""When two values count as equal: the same type of number, the same shape and the same bits, NaN and −0 included."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch


def fingerprint(value: Any) -> tuple:
    """Return what must be equal: dtype, shape and bytes; a document's canonical JSON.

    A scalar and FFCV's row of one number are the same, as are bytes and an array of them.
    """
    if isinstance(value, dict):
        return ("json", (), json.dumps(value, sort_keys=True))
    if isinstance(value, bytes | bytearray | memoryview):
        value = np.frombuffer(value, dtype=np.uint8)
    array = value.numpy() if isinstance(value, torch.Tensor) else np.asarray(value)
    shape = () if array.shape == (1,) and array.dtype in (np.int64, np.float64) else array.shape
    return (array.dtype.str, shape, array.tobytes())


def assert_equal(found: Sequence[Any], expected: Sequence[Any], what: str) -> int:
    """Compare two columns value by value and return how many there were; the first difference is named."""
    assert len(found) == len(expected) > 0, f"{what}: {len(found)} values, wanted {len(expected)}"
    for index, (value, wanted) in enumerate(zip(found, expected, strict=True)):
        if fingerprint(value) != fingerprint(wanted):
            raise AssertionError(f"{what}, sample {index}: got {value!r}, wanted {wanted!r}")
    return len(found)
