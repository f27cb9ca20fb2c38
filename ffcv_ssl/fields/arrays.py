"""Fields for NumPy arrays and torch tensors that have one dtype and shape in all samples."""

from __future__ import annotations

import json
import math
import operator
import re
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ffcv_ssl.errors import FieldError
from ffcv_ssl.fields.base import ARGUMENTS_SIZE, Encoded, Field, register

MAX_DIMENSIONS = 32
LARGEST_PAYLOAD = 1 << 30  # bytes; a value lies inside one page, and this is the largest page

_ARGUMENTS = np.dtype([("shape", "<u8", MAX_DIMENSIONS), ("type_length", "<u8")])
# The dtypes that a file may name; np.dtype accepts far more.
_DTYPE_PATTERN = re.compile(r"[<|][biufcSUMm][0-9]{1,9}(\[[0-9a-zA-Z]+\])?")


@register
class NDArrayField(Field):
    """A NumPy array per sample.

    Parameters
    ----------
    dtype
        Any NumPy dtype except object and structured dtypes. Values are stored little-endian.
    shape
        1 to 32 sides, each >= 1.

    Raises
    ------
    FieldError
        If the format cannot hold such arrays.

    Examples
    --------
    >>> field = NDArrayField("float32", (2, 3))
    >>> field.size_bytes
    24
    >>> field.decode(None, field.encode(np.ones((2, 3), np.float32), sample_index=0).payload)
    array([[1., 1., 1.],
           [1., 1., 1.]], dtype=float32)
    """

    type_id: ClassVar[int] = 4
    pointer_name: ClassVar[str | None] = ""

    def __init__(self, dtype: DTypeLike, shape: Sequence[int]):
        self.dtype = _parse_dtype(dtype)
        self.shape = _parse_shape(shape)
        self.size_bytes = self.dtype.itemsize * math.prod(self.shape)
        if self.size_bytes > LARGEST_PAYLOAD:
            raise FieldError(
                f"an array of {self.dtype} and shape {self.shape} has {self.size_bytes} bytes; "
                "a value holds at most 2**30."
            )

    @property
    def record_dtype(self) -> np.dtype[Any]:
        """Pointer to the payload, uint64."""
        return np.dtype("<u8")

    def arguments(self) -> bytes:
        """Return shape and dtype in FFCV's layout.

        The layout is 32 sides and the length of the text, uint64, then NumPy's `descr` as JSON.
        """
        header = np.zeros(1, dtype=_ARGUMENTS)
        schema = json.dumps(self.dtype.descr).encode("ascii")
        header["shape"][0, : len(self.shape)] = self.shape
        header["type_length"] = len(schema)
        return header.tobytes() + schema

    @classmethod
    def from_arguments(cls, arguments: bytes) -> NDArrayField:
        """Create the field from its descriptor.

        Raises
        ------
        FieldError
            If shape or dtype are invalid.
        """
        header = np.frombuffer(arguments[: _ARGUMENTS.itemsize], dtype=_ARGUMENTS)[0]
        type_length = int(header["type_length"])
        if not 0 < type_length <= ARGUMENTS_SIZE - _ARGUMENTS.itemsize:
            raise FieldError(f"array field: the length of its dtype is {type_length} bytes.")
        shape = [int(side) for side in header["shape"]]
        while shape and shape[-1] == 0:
            shape.pop()
        return cls(_dtype_from_schema(arguments[_ARGUMENTS.itemsize :][:type_length]), shape)

    def describe(self) -> dict[str, Any]:
        """Return dtype and shape."""
        return {"type": type(self).__name__, "dtype": self.dtype.str, "shape": list(self.shape)}

    def encode(self, value: Any, sample_index: int, seed: int = 0) -> Encoded:
        """Encode an array or a tensor.

        Parameters
        ----------
        value
            Array of exactly this dtype (in any byte order) and shape. Nothing is cast or reshaped.
        sample_index, seed
            Unused.

        Raises
        ------
        FieldError
            If the value is no array, or has another dtype or shape.
        """
        array = as_numpy(value)
        wanted = f"wanted an array of {self.dtype} and shape {self.shape}"
        if array is None:
            raise FieldError(f"{wanted}, got {type(value).__name__}.")
        if array.dtype.newbyteorder("<") != self.dtype or array.shape != self.shape:
            raise FieldError(f"{wanted}, got {array.dtype} and {array.shape}.")
        stored = np.ascontiguousarray(array, dtype=self.dtype)
        return Encoded(stored.reshape(-1).view(np.uint8).data, ())

    def payload_size(self, records: NDArray[Any]) -> NDArray[np.int64]:
        """Return the size of the array in bytes for each record, (N,) int64."""
        return np.full(len(records), self.size_bytes, dtype=np.int64)

    def decode(self, record: Any, payload: bytes | memoryview) -> Any:
        """Return the array; it owns its memory."""
        return np.frombuffer(bytes(payload), dtype=self.dtype).reshape(self.shape).copy()


@register
class TorchTensorField(NDArrayField):
    """A torch tensor per sample.

    Parameters
    ----------
    dtype
        Dtype of torch or NumPy. NumPy has no bfloat16, so it cannot be stored.
    shape
        1 to 32 sides, each >= 1.

    Raises
    ------
    FieldError
        If the format cannot hold such tensors.

    Examples
    --------
    >>> TorchTensorField("torch.float32", (2, 3))
    TorchTensorField(dtype='<f4', shape=[2, 3])
    """

    type_id: ClassVar[int] = 6

    def __init__(self, dtype: Any, shape: Sequence[int]):
        name = str(dtype)
        super().__init__(name.removeprefix("torch.") if name.startswith("torch.") else dtype, shape)

    def decode(self, record: Any, payload: bytes | memoryview) -> Any:
        """Return the tensor; it owns its memory."""
        import torch  # late, because only readers of tensors need it

        return torch.from_numpy(super().decode(record, payload))


def as_numpy(value: Any) -> NDArray[Any] | None:
    """Convert an array, or a tensor on any device, to a NumPy array.

    Parameters
    ----------
    value
        Any object.

    Returns
    -------
    np.ndarray or None
        None if the value is neither.

    Raises
    ------
    FieldError
        If NumPy has no dtype for the tensor.
    """
    if isinstance(value, np.ndarray):
        return value
    # A tensor, recognized without importing torch.
    if not all(hasattr(value, name) for name in ("detach", "cpu", "numpy")):
        return None
    try:
        return np.asarray(value.detach().cpu().numpy())
    except TypeError as error:
        raise FieldError(f"NumPy cannot hold a tensor of {value.dtype}.") from error


def _parse_dtype(dtype: DTypeLike) -> np.dtype[Any]:
    try:
        parsed = np.dtype(dtype)
    except TypeError as error:
        raise FieldError(f"{dtype!r} is not a NumPy dtype: {error}.") from error
    if (
        parsed.hasobject
        or parsed.names is not None
        or parsed.subdtype is not None
        or parsed.kind not in "biufcSUMm"
    ):
        raise FieldError(
            f"dtype {parsed} cannot be stored: only numbers, booleans, fixed strings and times; "
            "use several fields, or JSON."
        )
    if parsed.itemsize == 0:
        raise FieldError(f"dtype {parsed!r} has no size; give one, as in 'S16'.")
    little = parsed.newbyteorder("<")
    # Units such as [25s] match; parsing has already rewritten [ms/3].
    if not _DTYPE_PATTERN.fullmatch(little.str):
        raise FieldError(f"dtype {parsed} has no portable name ({little.str}).")
    return little


def _parse_shape(shape: Sequence[int]) -> tuple[int, ...]:
    try:
        sides = tuple(operator.index(side) for side in shape)
    except TypeError as error:
        raise FieldError(f"shape must be a sequence of integers, got {shape!r}.") from error
    if not 1 <= len(sides) <= MAX_DIMENSIONS:
        raise FieldError(
            f"shape {sides} has {len(sides)} dimensions; the format holds 1 to {MAX_DIMENSIONS}. "
            "For a scalar use (1,)."
        )
    if min(sides) < 1:
        raise FieldError(f"shape {sides}: every side must be at least 1.")
    return sides


def _dtype_from_schema(schema: bytes) -> np.dtype[Any]:
    """Parse the JSON of `dtype.descr`.

    The text is not trusted: it must be a list of one pair, a name and a plain little-endian type.
    """
    try:
        description = json.loads(schema.decode("ascii"))
    except (ValueError, RecursionError) as error:
        raise FieldError(f"array field: its dtype cannot be read: {error}.") from error
    match description:
        case [[str(), str(name)]] if _DTYPE_PATTERN.fullmatch(name):
            return _parse_dtype(name)
    raise FieldError(f"array field: dtype {description!r} is not one that this package reads.")
