"""A placeholder for a custom field whose class is not available."""

from __future__ import annotations

from typing import Any

import numpy as np

from ffcv_ssl.errors import FieldError
from ffcv_ssl.fields.base import Encoded, Field


class OpaqueField(Field):
    """A custom field (type 255) of a file that was opened without the field's class.

    It can be listed and copied, but neither encoded nor decoded.

    Parameters
    ----------
    name
        Name of the class that wrote the field, for messages.
    record_dtype
        Record dtype that the file declares.
    """

    def __init__(self, name: str, record_dtype: np.dtype[Any]):
        self.name = name
        self._record_dtype = record_dtype

    @property
    def record_dtype(self) -> np.dtype[Any]:
        """Dtype of the record, as the file declares it."""
        return self._record_dtype

    def describe(self) -> dict[str, Any]:
        """Return the name of the class that wrote the field."""
        return {"type": type(self).__name__, "name": self.name}

    def encode(self, value: Any, sample_index: int, seed: int = 0) -> Encoded:
        """Raise a FieldError, because the class of the field is unknown."""
        raise FieldError(self._advice())

    def decode(self, record: Any, payload: bytes | memoryview) -> Any:
        """Raise a FieldError, because the class of the field is unknown."""
        raise FieldError(self._advice())

    def _advice(self) -> str:
        return (
            f"the class of this custom field ({self.name}) is not known; "
            "open the file with custom_fields={field name: class}."
        )
