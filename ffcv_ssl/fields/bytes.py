"""Fields for values of varying length: bytes and JSON."""

from __future__ import annotations

import json
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ffcv_ssl.errors import FieldError
from ffcv_ssl.fields.arrays import as_numpy
from ffcv_ssl.fields.base import Encoded, Field, register

_LARGEST_SIZE = np.uint64(np.iinfo(np.int64).max)


@register
class BytesField(Field):
    """Bytes of any length per sample, including none.

    Examples
    --------
    >>> bytes(BytesField().encode(b"text", sample_index=0).payload)
    b'text'
    """

    type_id: ClassVar[int] = 3
    pointer_name: ClassVar[str | None] = "ptr"

    @property
    def record_dtype(self) -> np.dtype[Any]:
        """Pointer and size in bytes, both uint64."""
        return np.dtype([("ptr", "<u8"), ("size", "<u8")])

    def encode(self, value: Any, sample_index: int, seed: int = 0) -> Encoded:
        """Encode bytes.

        Parameters
        ----------
        value
            A buffer of bytes, or a one-dimensional uint8 array or tensor, as in FFCV.
        sample_index, seed
            Unused.

        Raises
        ------
        FieldError
            If the value is neither.
        """
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

    def record(self, encoded: Encoded, pointer: int) -> tuple[Any, ...]:
        """Return the record with the pointer first."""
        return (pointer, *encoded.record)

    def payload_size(self, records: NDArray[Any]) -> NDArray[np.int64]:
        """Return the sizes in (N,) records as (N,) int64, at most 2**63 - 1."""
        return np.asarray(np.minimum(records["size"], _LARGEST_SIZE).astype(np.int64))

    def decode(self, record: Any, payload: bytes | memoryview) -> Any:
        """Return the payload as bytes."""
        return bytes(payload)


@register
class JSONField(BytesField):
    """A JSON value per sample.

    A decoded value is the result of `json.loads`: tuples become lists, and keys become strings.

    Examples
    --------
    >>> field = JSONField()
    >>> field.decode(None, field.encode({"box": (1, 2)}, sample_index=0).payload)
    {'box': [1, 2]}
    """

    type_id: ClassVar[int] = 5

    def encode(self, value: Any, sample_index: int, seed: int = 0) -> Encoded:
        """Encode a value as JSON text that ends with one NUL.

        Parameters
        ----------
        value
            Anything that `json.dumps` accepts.
        sample_index, seed
            Unused.

        Raises
        ------
        FieldError
            If JSON cannot represent the value.
        """
        try:
            text = json.dumps(value)
        except (TypeError, ValueError, RecursionError) as error:
            raise FieldError(f"not a value for JSON: {error}.") from error
        payload = text.encode("ascii") + b"\0"
        return Encoded(payload, (len(payload),))

    def decode(self, record: Any, payload: bytes | memoryview) -> Any:
        """Return the stored value.

        Raises
        ------
        FieldError
            If the payload is not JSON text that ends with one NUL.
        """
        content = bytes(payload)
        if content[-1:] != b"\0":
            raise FieldError("the stored JSON does not end with a NUL byte.")
        try:
            return json.loads(content[:-1].decode("utf-8"))
        except (ValueError, RecursionError) as error:
            raise FieldError(f"the stored JSON cannot be read: {error}.") from error
