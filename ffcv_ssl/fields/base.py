"""The base class of all fields, and the registry of the built-in ones."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

from ffcv_ssl.errors import UnknownFieldType

ARGUMENTS_SIZE = 1024  # bytes for the arguments in a field descriptor (`beton/BETON.md`)
CUSTOM_TYPE_ID = 255
SIZE_UNKNOWN = -1  # result of `Field.payload_size` if only the allocation table holds the size

FieldClass = TypeVar("FieldClass", bound="type[Field]")


@dataclass(frozen=True)
class Encoded:
    """An encoded value, ready to be stored.

    Parameters
    ----------
    payload
        Bytes to store in a page, as a C-contiguous buffer; may be empty. None: the record holds the
        whole value.
    record
        Values of the record without the pointer, which `Field.record` adds.
    note
        How the value was encoded ("kept", "converted", "reencoded", …). The writer counts equal
        notes.
    """

    payload: bytes | memoryview | None
    record: tuple[Any, ...]
    note: str | None = None


class Field(ABC):
    """A named column of the samples in a file.

    A subclass that keeps `type_id` 255 is a custom field. The reader needs its class:
    `custom_fields={"name": Class}`.

    Attributes
    ----------
    type_id
        Number of the field's type in the file format, 0 to 255.
    pointer_name
        Part of the record that holds the pointer to the payload. "": the record is the pointer.
        None: there is no payload.

    Examples
    --------
    A field that stores a boolean in one byte:

    >>> class BooleanField(Field):
    ...     record_dtype = np.dtype("u1")
    ...
    ...     def encode(self, value, sample_index, seed=0):
    ...         return Encoded(None, (int(value),))
    ...
    ...     def decode(self, record, payload):
    ...         return bool(record)
    >>> BooleanField().encode(True, sample_index=0).record
    (1,)
    """

    type_id: ClassVar[int] = CUSTOM_TYPE_ID
    pointer_name: ClassVar[str | None] = None

    @property
    @abstractmethod
    def record_dtype(self) -> np.dtype[Any]:
        """Dtype of the record that each sample has for this field."""

    @abstractmethod
    def encode(self, value: Any, sample_index: int, seed: int = 0) -> Encoded:
        """Encode one value. The result depends only on the arguments.

        Parameters
        ----------
        value
            Value of the sample, as the dataset returned it.
        sample_index
            Index of the sample in the dataset (not in the file), >= 0.
        seed
            Seed of the writer, 0 to 2**64 - 1, for choices by hash of seed and index.

        Returns
        -------
        Encoded
            The record and the payload.

        Raises
        ------
        FieldError, ImageError
            If the field cannot store the value.
        """

    @abstractmethod
    def decode(self, record: Any, payload: bytes | memoryview) -> Any:
        """Decode one value.

        Parameters
        ----------
        record
            Scalar of `record_dtype`.
        payload
            Bytes of the payload; empty if there is none.

        Returns
        -------
        object
            The value.

        Raises
        ------
        FieldError, ImageError
            If the stored bytes are invalid.
        """

    def blemish(self, record: Any, payload: bytes | memoryview) -> str | None:
        """Describe a harmless defect of a stored value that decodes correctly.

        Parameters
        ----------
        record, payload
            As for `decode`.

        Returns
        -------
        str or None
            The defect; None if there is none.

        Raises
        ------
        FieldError, ImageError
            As for `decode`.
        """
        self.decode(record, payload)
        return None

    def record(self, encoded: Encoded, pointer: int) -> tuple[Any, ...]:
        """Complete the record of an encoded value; by default, the pointer comes last.

        Parameters
        ----------
        encoded
            The encoded value.
        pointer
            Offset of the payload in the file; 0 if there is none.

        Returns
        -------
        tuple
            The parts of the record, or a tuple of one value if `record_dtype` has no parts.
        """
        return encoded.record if encoded.payload is None else (*encoded.record, pointer)

    def arguments(self) -> bytes:
        """Return at most 1024 bytes for the field's descriptor; the writer pads them with zeros."""
        return b""

    @classmethod
    def from_arguments(cls, arguments: bytes) -> Field:
        """Create the field from its descriptor.

        Parameters
        ----------
        arguments
            The 1024 bytes of the descriptor.

        Returns
        -------
        Field
            A field equal to the one that was written.

        Raises
        ------
        FieldError
            If the arguments are invalid.
        """
        return cls()

    def describe(self) -> dict[str, Any]:
        """Return all arguments of the field as JSON values, with the class name as "type"."""
        return {"type": type(self).__name__}

    def __repr__(self) -> str:
        arguments = (
            f"{name}={value!r}" for name, value in self.describe().items() if name != "type"
        )
        return f"{type(self).__name__}({', '.join(arguments)})"

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other.describe() == self.describe()

    def __hash__(self) -> int:
        return hash(repr(self))

    def pointers(self, records: NDArray[Any]) -> NDArray[Any] | None:
        """Return the pointers in (N,) records as (N,) uint64; None if the field has no payload."""
        if self.pointer_name is None:
            return None
        return records if self.pointer_name == "" else records[self.pointer_name]

    def payload_size(self, records: NDArray[Any]) -> NDArray[np.int64] | None:
        """Return the payload size that each record requires.

        Parameters
        ----------
        records
            (N,) of `record_dtype`.

        Returns
        -------
        np.ndarray or None
            (N,) int64, in bytes; `SIZE_UNKNOWN` where only the allocation table holds the size.
            None if that is the case for all records.
        """
        return None

    # Not abstract: most fields accept any record.
    def validate(self, records: NDArray[Any], sizes: NDArray[np.int64]) -> None:  # noqa: B027
        """Check all records of a file in one vectorized pass.

        Parameters
        ----------
        records
            (N,) of `record_dtype`, as read from the file; they may hold any value.
        sizes
            (N,) int64, payload size of each record in bytes (0 if the field has no payload). They
            have already been compared with `payload_size`.

        Raises
        ------
        FieldError
            If a record is invalid; the message names the first such sample.
        """


_FIELD_TYPES: dict[int, type[Field]] = {}


def register(field_class: FieldClass) -> FieldClass:
    """Register a built-in field class under its type id, as a class decorator.

    Parameters
    ----------
    field_class
        Subclass of `Field` with a `type_id` of its own; it is also the result.

    Raises
    ------
    ValueError
        If the type id is already in use.
    """
    if field_class.type_id in _FIELD_TYPES:
        owner = _FIELD_TYPES[field_class.type_id].__name__
        type_id = f"type id {field_class.type_id}"
        raise ValueError(f"{field_class.__name__}: {type_id} belongs to {owner}.")
    _FIELD_TYPES[field_class.type_id] = field_class
    return field_class


def field_type(type_id: int) -> type[Field]:
    """Return the built-in field class with a type id.

    Parameters
    ----------
    type_id
        Number from a file, 0 to 255.

    Returns
    -------
    type
        Subclass of `Field`.

    Raises
    ------
    UnknownFieldType
        If no built-in field has this type id.
    """
    if type_id not in _FIELD_TYPES:
        types = sorted(_FIELD_TYPES.items())
        known = ", ".join(f"{number} {known_class.__name__}" for number, known_class in types)
        raise UnknownFieldType(
            f"unknown field type {type_id}. Known types: {known}; "
            f"{CUSTOM_TYPE_ID} for custom fields."
        )
    return _FIELD_TYPES[type_id]
