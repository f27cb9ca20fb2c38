"""From descriptors to field objects and the record type, custom fields included."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ffcv_ssl.beton.layout import Descriptor, record_dtype
from ffcv_ssl.errors import BetonFormatError, FieldError, UnknownFieldType
from ffcv_ssl.fields.base import CUSTOM_TYPE_ID, Field, field_type
from ffcv_ssl.fields.custom import OpaqueField

_PLAIN_TYPE = re.compile(r"[<>|][biufcSUMmV][0-9]{1,9}(\[[0-9a-zA-Z]+\])?")


def parse_schema(
    descriptors: Sequence[Descriptor], custom_fields: Mapping[str, type[Field]], metadata: Mapping[str, Any]
) -> tuple[dict[str, Field], np.dtype]:
    """Build the fields of a file and the type of its records.

    Parameters
    ----------
    descriptors
        In file order.
    custom_fields
        Field classes by field name; they also replace built-in ones.
    metadata
        JSON of the extension block: it tells the record type of custom fields whose class is not given.

    Raises
    ------
    UnknownFieldType
        For a type id that is not known, or a custom field about which nothing is known.
    BetonFormatError
        If arguments or metadata make no sense.
    """
    stored_dtype = None
    fields: dict[str, Field] = {}
    for descriptor in descriptors:
        name = descriptor.name
        if descriptor.type_id == CUSTOM_TYPE_ID and name not in custom_fields:
            stored_dtype = stored_dtype or _recorded_dtype([each.name for each in descriptors], name, metadata)
            fields[name] = OpaqueField(_class_name(name, metadata), stored_dtype[name])
            continue
        try:
            field_class = custom_fields[name] if name in custom_fields else field_type(descriptor.type_id)
            fields[name] = field_class.from_arguments(descriptor.arguments)
        except UnknownFieldType as error:
            raise UnknownFieldType(f"field {name!r}: {error}") from error
        except FieldError as error:
            raise BetonFormatError(f"field {name!r}: {error}") from error
    if stored_dtype is None:
        return fields, record_dtype(fields)
    for name, field in fields.items():
        if field.record_dtype != stored_dtype[name]:
            raise BetonFormatError(f"field {name!r}: the metadata says its record is {stored_dtype[name]}, wanted {field.record_dtype}.")
    return fields, stored_dtype


def dtype_to_json(dtype: np.dtype) -> list:
    """NumPy's descr of a record type, padding included; JSON makes its tuples lists."""
    return np.lib.format.dtype_to_descr(dtype)


def _recorded_dtype(names: Sequence[str], custom_name: str, metadata: Mapping[str, Any]) -> np.dtype:
    """The record type that the writer noted in the metadata."""
    if "record" not in metadata:
        raise UnknownFieldType(f"field {custom_name!r} is a custom field; open the file with custom_fields={{{custom_name!r}: its class}}.")
    try:
        dtype = np.lib.format.descr_to_dtype(_descr(metadata["record"]))
    except (TypeError, ValueError, RecursionError, MemoryError) as error:
        raise BetonFormatError(f"the record type in the metadata cannot be read: {error}.") from error
    if dtype.names != tuple(names):
        raise BetonFormatError(f"the metadata describes the fields {dtype.names}, the descriptors {tuple(names)}.")
    return dtype


def _descr(entries: Any) -> list:
    """A descr with its tuples back, made only of plain types."""
    result: list = []
    for entry in entries:
        match entry:
            case [str(name), str(kind)] if _PLAIN_TYPE.fullmatch(kind):
                result.append((name, kind))
            case [str(name), list(parts)]:
                result.append((name, _descr(parts)))
            case [str(name), str(kind), [*sides]] if _PLAIN_TYPE.fullmatch(kind) and all(type(side) is int and side >= 0 for side in sides):
                result.append((name, kind, tuple(sides)))
            case _:
                raise ValueError(f"{entry!r} is not a field of a record")
    return result


def _class_name(name: str, metadata: Mapping[str, Any]) -> str:
    described = metadata.get("fields")
    described = described.get(name) if isinstance(described, dict) else None
    return str(described.get("type", "unnamed")) if isinstance(described, dict) else "unnamed"
