"""A custom field whose class is not at hand: it can be listed and copied, not decoded."""

from __future__ import annotations

from typing import Any

import numpy as np

from ffcv_ssl.errors import FieldError
from ffcv_ssl.fields.base import Encoded, Field


class OpaqueField(Field):
    """Stand-in for a custom field (type 255) of a file that was opened without its class.

    Parameters
    ----------
    name
        Of the class that wrote it, for messages.
    record_dtype
        What the file says its record is.
    """

    def __init__(self, name: str, record_dtype: np.dtype):
        self.name = name
        self._record_dtype = record_dtype

    @property
    def record_dtype(self) -> np.dtype:
        return self._record_dtype

    def describe(self) -> dict:
        return {"type": type(self).__name__, "name": self.name}

    def encode(self, value: Any, sample_index: int, seed: int = 0) -> Encoded:
        raise FieldError(self._advice())

    def decode(self, record: Any, payload: bytes | memoryview) -> Any:
        raise FieldError(self._advice())

    def _advice(self) -> str:
        return f"the class of this custom field ({self.name}) is not known; open the file with custom_fields={{field name: class}}."
