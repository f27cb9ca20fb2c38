"""Fields for one number per sample; the record itself holds the value."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from ffcv_ssl.errors import FieldError
from ffcv_ssl.fields.base import Encoded, Field, register

_INT64 = np.iinfo(np.int64)


@register
class FloatField(Field):
    """A float64 per sample.

    Examples
    --------
    >>> FloatField().encode(0.5, sample_index=0).record
    (0.5,)
    """

    type_id: ClassVar[int] = 0

    @property
    def record_dtype(self) -> np.dtype[Any]:
        """Little-endian float64."""
        return np.dtype("<f8")

    def encode(self, value: Any, sample_index: int, seed: int = 0) -> Encoded:
        """Encode a real number.

        Parameters
        ----------
        value
            A number of Python or NumPy, or a 0-d array or tensor.
        sample_index, seed
            Unused.

        Raises
        ------
        FieldError
            If the value is not a real number, or is an integer that a float64 cannot represent.
        """
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
        """Return the record as a Python float."""
        return float(record)


@register
class IntField(Field):
    """An int64 per sample.

    Examples
    --------
    >>> IntField().encode(7, sample_index=0).record
    (7,)
    """

    type_id: ClassVar[int] = 1

    @property
    def record_dtype(self) -> np.dtype[Any]:
        """Little-endian int64."""
        return np.dtype("<i8")

    def encode(self, value: Any, sample_index: int, seed: int = 0) -> Encoded:
        """Encode an integer or a boolean.

        Parameters
        ----------
        value
            An integer or boolean of Python or NumPy, or a 0-d array or tensor of them. Floats are
            refused, even 3.0.
        sample_index, seed
            Unused.

        Raises
        ------
        FieldError
            If the value is not an integer, or exceeds 64 bits.
        """
        number = _python_scalar(value)
        if not isinstance(number, int):
            raise FieldError(f"wanted an integer, got {_shown(value)}.")
        if not _INT64.min <= number <= _INT64.max:
            raise FieldError(f"{number} does not fit an int64.")
        return Encoded(None, (int(number),))

    def decode(self, record: Any, payload: bytes | memoryview) -> int:
        """Return the record as a Python int."""
        return int(record)


def _python_scalar(value: Any) -> Any:
    """Return the Python number in a NumPy scalar or a 0-d array or tensor, else the value."""
    return value.item() if getattr(value, "shape", None) == () else value


def _shown(value: Any) -> str:
    """Return the type and a short repr of a value, for a message."""
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 60 else text[:57] + '...'}"
