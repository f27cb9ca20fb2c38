"""Values of varying length: bytes and JSON."""

from __future__ import annotations

import json
from typing import Any, ClassVar

import numpy as np

from ffcv_ssl.errors import FieldError
from ffcv_ssl.fields.arrays import as_numpy
from ffcv_ssl.fields.base import Encoded, Field, register

_LARGEST_SIZE = np.uint64(np.iinfo(np.int64).max)


@register
class BytesField(Field):
    """Bytes of any length, zero included."""

    type_id: ClassVar[int] = 3
    pointer_name: ClassVar[str | None] = "ptr"

    @property
    def record_dtype(self) -> np.dtype:
        return np.dtype([("ptr", "<u8"), ("size", "<u8")])

    def encode(self, value: Any, sample_index: int, seed: int = 0) -> Encoded:
        """Store bytes, or a one-dimensional uint8 array or tensor as FFCV wants it; FieldError for anything else."""
        if not isinstance(value, (bytes, bytearray, memoryview)):
            array = as_numpy(value)
            if array is None or array.dtype != np.uint8 or array.ndim != 1:
                got = (
                    type(value).__name__
                    if array is None
                    else f"an array of {array.dtype} and shape {array.shape}"
                )
                raise FieldError(f"wanted bytes or a one-dimensional uint8 array, got {got}.")
            value = np.ascontiguousarray(array).data
        payload = memoryview(value)
        if not payload.c_contiguous:
            payload = memoryview(payload.tobytes())
        return Encoded(payload, (payload.nbytes,))

    def record(self, encoded: Encoded, pointer: int) -> tuple:
        return (pointer, *encoded.record)

    def payload_size(self, records: np.ndarray) -> np.ndarray:
        return np.minimum(records["size"], _LARGEST_SIZE).astype(np.int64)

    def decode(self, record: Any, payload: bytes | memoryview) -> Any:
        return bytes(payload)


@register
class JSONField(BytesField):
    """Anything that JSON can hold; what comes back is what `json.loads` makes of it (tuples become lists, keys strings)."""

    type_id: ClassVar[int] = 5

    def encode(self, value: Any, sample_index: int, seed: int = 0) -> Encoded:
        """Store a value as JSON text ended by one NUL; FieldError if JSON cannot hold it."""
        try:
            text = json.dumps(value)
        except (TypeError, ValueError, RecursionError) as error:
            raise FieldError(f"not a value for JSON: {error}.") from error
        payload = text.encode("ascii") + b"\0"
        return Encoded(payload, (len(payload),))

    def decode(self, record: Any, payload: bytes | memoryview) -> Any:
        """The stored value; FieldError if the bytes are not JSON ended by one NUL."""
        content = bytes(payload)
        if content[-1:] != b"\0":
            raise FieldError("the stored JSON does not end with a NUL byte.")
        try:
            return json.loads(content[:-1].decode("utf-8"))
        except (ValueError, RecursionError) as error:
            raise FieldError(f"the stored JSON cannot be read: {error}.") from error
