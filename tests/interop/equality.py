"""Equality of values: the same dtype, shape and bits, including NaN and −0."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch


def fingerprint(value: Any) -> tuple:
    """Return what must be equal: dtype, shape and bytes, or the canonical JSON of a document.

    A scalar equals FFCV's row of one number, and bytes equal an array of bytes.
    """
    if isinstance(value, dict):
        return ("json", (), json.dumps(value, sort_keys=True))
    if isinstance(value, bytes | bytearray | memoryview):
        value = np.frombuffer(value, dtype=np.uint8)
    array = value.numpy() if isinstance(value, torch.Tensor) else np.asarray(value)
    shape = () if array.shape == (1,) and array.dtype in (np.int64, np.float64) else array.shape
    return (array.dtype.str, shape, array.tobytes())


def assert_equal(found: Sequence[Any], expected: Sequence[Any], what: str) -> int:
    """Compare two columns value by value; return their length or name the first difference."""
    assert len(found) == len(expected) > 0, f"{what}: {len(found)} values, wanted {len(expected)}"
    for index, (value, wanted) in enumerate(zip(found, expected, strict=True)):
        if fingerprint(value) != fingerprint(wanted):
            raise AssertionError(f"{what}, sample {index}: got {value!r}, wanted {wanted!r}")
    return len(found)
