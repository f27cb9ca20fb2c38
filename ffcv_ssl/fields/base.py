"""What a field is: how one value of a sample is stored, described, checked and read back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import numpy as np

from ffcv_ssl.errors import UnknownFieldType

ARGUMENTS_SIZE = 1024  # bytes that a field descriptor holds for the arguments (BETON.md)
CUSTOM_TYPE_ID = 255
SIZE_UNKNOWN = -1  # in `Field.payload_size`: only the allocation table knows

FieldClass = TypeVar("FieldClass", bound="type[Field]")


@dataclass(frozen=True)
class Encoded:
    """One value, ready to be stored.

    Parameters
    ----------
    payload
        The bytes that go into a page, as a C-contiguous buffer; empty is allowed. None: everything is in the record.
    record
        The values of the record without the pointer; `Field.record` puts the pointer where it belongs.
    note
        What was done to the value ("kept", "converted", "reencoded" …); the writer counts equal notes.
    """

    payload: bytes | memoryview | None
    record: tuple
    note: str | None = None


class Field(ABC):
    """One named column of the samples in a file.

    A subclass of type 255 is a custom field: its class is handed to the reader by name (`custom_fields={"name": Class}`).
    """

    type_id: ClassVar[int] = CUSTOM_TYPE_ID
    pointer_name: ClassVar[str | None] = None
    """Part of the record that holds the pointer to the payload; "" if the record is the pointer itself, None if there is no payload."""

    @property
    @abstractmethod
    def record_dtype(self) -> np.dtype:
        """What this field stores in the record of each sample."""

    @property
    def metadata_type(self) -> np.dtype:
        """FFCV's name of `record_dtype`."""
        return self.record_dtype

    @abstractmethod
    def encode(self, value: Any, sample_index: int, seed: int = 0) -> Encoded:
        """Turn one value into what is stored; a pure function of its arguments.

        Parameters
        ----------
        value
            What the dataset gave for this field.
        sample_index
            Index of the sample in the dataset (not in the file).
        seed
            The writer's seed, for choices made by hash of seed and index.

        Raises
        ------
        FieldError, ImageError
            If the value does not fit the field.
        """

    @abstractmethod
    def decode(self, record: Any, payload: bytes | memoryview) -> Any:
        """Turn one record (a scalar of `record_dtype`) and its payload (empty if there is none) into one Python value."""

    def blemish(self, record: Any, payload: bytes | memoryview) -> str | None:
        """Say what is odd about a stored value that decodes all the same, or None; raises what `decode` raises."""
        self.decode(record, payload)
        return None

    def record(self, encoded: Encoded, pointer: int) -> tuple:
        """Complete the record of an encoded value; a tuple of one where `record_dtype` is a plain scalar.

        `pointer` is the file offset of the payload, 0 if there is none. Unless overridden, the pointer comes last.
        """
        return encoded.record if encoded.payload is None else (*encoded.record, pointer)

    def arguments(self) -> bytes:
        """The arguments as stored in the file's descriptor: at most 1024 bytes, padded with zeros by the writer."""
        return b""

    @classmethod
    def from_arguments(cls, arguments: bytes) -> Field:
        """Build the field from the 1024 bytes of its descriptor; FieldError if they make no sense."""
        return cls()

    def describe(self) -> dict:
        """All arguments of the field, fit for JSON, with its class name as "type"."""
        return {"type": type(self).__name__}

    def __repr__(self) -> str:
        arguments = ", ".join(
            f"{name}={value!r}" for name, value in self.describe().items() if name != "type"
        )
        return f"{type(self).__name__}({arguments})"

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other.describe() == self.describe()

    def __hash__(self) -> int:
        return hash(repr(self))

    def pointers(self, records: np.ndarray) -> np.ndarray | None:
        """Pointers of (N,) records as (N,) uint64; None if the field stores no payload."""
        if self.pointer_name is None:
            return None
        return records if self.pointer_name == "" else records[self.pointer_name]

    def payload_size(self, records: np.ndarray) -> np.ndarray | None:
        """Bytes that the payload of each of (N,) records must have, as (N,) int64.

        `SIZE_UNKNOWN` where only the allocation table knows; None if that holds for all records.
        """
        return None

    def validate(self, records: np.ndarray, sizes: np.ndarray) -> None:  # noqa: B027  (most fields accept any record)
        """Check the contents of all records of a file, in one vectorised pass.

        Parameters
        ----------
        records
            (N,) of `record_dtype`, as found in the file: anything may stand in them.
        sizes
            (N,) int64, payload bytes of each record (all 0 if the field has no payload); already equal to `payload_size`.

        Raises
        ------
        FieldError
            Naming the first sample that breaks the field's rules.
        """


_FIELD_TYPES: dict[int, type[Field]] = {}


def register(field_class: FieldClass) -> FieldClass:
    """Class decorator: make a built-in field known to the reader by its type id."""
    if field_class.type_id in _FIELD_TYPES:
        raise ValueError(
            f"{field_class.__name__}: type id {field_class.type_id} belongs to {_FIELD_TYPES[field_class.type_id].__name__}."
        )
    _FIELD_TYPES[field_class.type_id] = field_class
    return field_class


def field_type(type_id: int) -> type[Field]:
    """The built-in field class of a type id; UnknownFieldType if there is none."""
    if type_id not in _FIELD_TYPES:
        known = ", ".join(
            f"{number} {known_class.__name__}"
            for number, known_class in sorted(_FIELD_TYPES.items())
        )
        raise UnknownFieldType(
            f"unknown field type {type_id}. Known types: {known}; {CUSTOM_TYPE_ID} for custom fields."
        )
    return _FIELD_TYPES[type_id]
