"""Scalar fields: the value itself stands in the record."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from ffcv_ssl.errors import FieldError
from ffcv_ssl.fields.base import Encoded, Field, register

_INT64 = np.iinfo(np.int64)


@register
class FloatField(Field):
    """One float64 per sample."""

    type_id: ClassVar[int] = 0

    @property
    def record_dtype(self) -> np.dtype:
        return np.dtype("<f8")

    def encode(self, value: Any, sample_index: int, seed: int = 0) -> Encoded:
        """Store a real number: Python, NumPy, or a 0-d array or tensor; FieldError for anything else."""
        number = _python_scalar(value)
        if isinstance(number, bool) or not isinstance(number, (int, float)):
            raise FieldError(f"wanted a real number, got {_shown(value)}.")
        try:
            stored = float(number)
        except OverflowError as error:
            raise FieldError(f"{_shown(value)} is too large for a float64.") from error
        if isinstance(number, int) and int(stored) != number:
            raise FieldError(f"{_shown(value)} is not exact as a float64; store it in an IntField.")
        return Encoded(None, (stored,))

    def decode(self, record: Any, payload: bytes | memoryview) -> float:
        return float(record)


@register
class IntField(Field):
    """One int64 per sample."""

    type_id: ClassVar[int] = 1

    @property
    def record_dtype(self) -> np.dtype:
        return np.dtype("<i8")

    def encode(self, value: Any, sample_index: int, seed: int = 0) -> Encoded:
        """Store an integer or a boolean: Python, NumPy, or a 0-d array or tensor; FieldError for anything else, 3.0 included."""
        number = _python_scalar(value)
        if not isinstance(number, int):
            raise FieldError(f"wanted an integer, got {_shown(value)}.")
        if not _INT64.min <= number <= _INT64.max:
            raise FieldError(f"{number} does not fit an int64.")
        return Encoded(None, (int(number),))

    def decode(self, record: Any, payload: bytes | memoryview) -> int:
        return int(record)


def _python_scalar(value: Any) -> Any:
    """The Python number inside a NumPy scalar, a 0-d array or a 0-d tensor; any other value as it is."""
    return value.item() if getattr(value, "shape", None) == () else value


def _shown(value: Any) -> str:
    """A value for a message: its type and a short repr."""
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 60 else text[:57] + '...'}"
