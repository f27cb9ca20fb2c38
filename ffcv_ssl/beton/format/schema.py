"""Fields of a file: built from descriptors and metadata, checked before they are written."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ffcv_ssl.beton.format.layout import (
    MAX_FIELDS,
    Descriptor,
    descriptors_to_bytes,
    record_dtype,
)
from ffcv_ssl.errors import BetonFormatError, FieldError, UnknownFieldType
from ffcv_ssl.fields.base import ARGUMENTS_SIZE, CUSTOM_TYPE_ID, Field, field_type
from ffcv_ssl.fields.custom import OpaqueField

_SIMPLE_DTYPE = re.compile(r"[<>|][biufcSUMmV][0-9]{1,9}(\[[0-9a-zA-Z]+\])?")


def parse_schema(
    descriptors: Sequence[Descriptor],
    custom_fields: Mapping[str, type[Field]],
    metadata: Mapping[str, Any],
) -> tuple[dict[str, Field], np.dtype[Any]]:
    """Build the fields of a file and the dtype of its records.

    Parameters
    ----------
    descriptors
        Descriptors in file order.
    custom_fields
        Field classes by field name; they also override built-in classes.
    metadata
        JSON of the extension block. It provides the record dtype of custom fields whose class is
        not given.

    Returns
    -------
    fields : dict
        Fields by name, in file order. A custom field without a class is an `OpaqueField`.
    dtype : numpy.dtype
        Structured dtype of the records.

    Raises
    ------
    UnknownFieldType
        If a type id is not registered, or the record dtype of a custom field is unknown.
    BetonFormatError
        If arguments or metadata are invalid.
    """
    stored_dtype: np.dtype[Any] | None = None
    fields: dict[str, Field] = {}
    for descriptor in descriptors:
        name = descriptor.name
        if descriptor.type_id == CUSTOM_TYPE_ID and name not in custom_fields:
            if stored_dtype is None:
                names = [each.name for each in descriptors]
                stored_dtype = _dtype_from_metadata(names, name, metadata)
            fields[name] = OpaqueField(_class_name(name, metadata), stored_dtype[name])
            continue
        try:
            if name in custom_fields:
                field_class = custom_fields[name]
            else:
                field_class = field_type(descriptor.type_id)
            fields[name] = field_class.from_arguments(descriptor.arguments)
        except UnknownFieldType as error:
            raise UnknownFieldType(f"field {name!r}: {error}") from error
        except FieldError as error:
            raise BetonFormatError(f"field {name!r}: {error}") from error
    if stored_dtype is None:
        return fields, record_dtype(fields)
    for name, field in fields.items():
        if field.record_dtype != stored_dtype[name]:
            raise BetonFormatError(
                f"field {name!r}: the record type in the metadata is {stored_dtype[name]}; "
                f"the field has {field.record_dtype}."
            )
    return fields, stored_dtype


def check_fields(fields: Mapping[str, Field]) -> dict[str, Field]:
    """Return the fields as a dict, after checking that a file can store and restore them.

    Parameters
    ----------
    fields
        Fields by name, in file order.

    Raises
    ------
    FieldError
        If the format cannot hold a field, or a field cannot be rebuilt from its arguments.
    """
    if not 1 <= len(fields) <= MAX_FIELDS:
        raise FieldError(f"a file has 1 to {MAX_FIELDS} fields, got {len(fields)}.")
    for name, field in fields.items():
        if not isinstance(name, str) or not isinstance(field, Field):
            raise FieldError(f"fields must map names to Field objects, got {name!r}: {field!r}.")
    descriptors_to_bytes(fields)
    for name, field in fields.items():
        dtype = field.record_dtype
        if dtype.hasobject:
            raise FieldError(f"field {name!r}: its record type {dtype} holds Python objects.")
        if _empty_part(dtype) is not None:
            raise FieldError(f"field {name!r}: its record type {dtype} has a part of zero bytes.")
        restored = type(field).from_arguments(field.arguments().ljust(ARGUMENTS_SIZE, b"\0"))
        if restored.record_dtype != dtype:
            raise FieldError(
                f"field {name!r}: from_arguments(arguments()) does not restore its record type "
                f"{dtype}."
            )
        try:
            json.dumps(field.describe())
        except (TypeError, ValueError) as error:
            raise FieldError(
                f"field {name!r}: describe() cannot be stored as JSON: {error}."
            ) from error
    return dict(fields)


def dtype_to_json(dtype: np.dtype[Any]) -> Any:
    """Return NumPy's descr of a record dtype, padding included. JSON turns its tuples into lists.

    Parameters
    ----------
    dtype
        Structured dtype of the records.
    """
    return np.lib.format.dtype_to_descr(dtype)


def _dtype_from_metadata(
    names: Sequence[str], custom_name: str, metadata: Mapping[str, Any]
) -> np.dtype[Any]:
    """Return the record dtype that the writer stored in the metadata."""
    if "record" not in metadata:
        raise UnknownFieldType(
            f"field {custom_name!r} is a custom field; open the file with "
            f"custom_fields={{{custom_name!r}: its class}}."
        )
    try:
        dtype = np.lib.format.descr_to_dtype(_parse_descr(metadata["record"]))
    except (TypeError, ValueError, RecursionError, MemoryError) as error:
        raise BetonFormatError(f"the record type in the metadata is invalid: {error}.") from error
    if dtype.names != tuple(names):
        raise BetonFormatError(
            f"the metadata describes the fields {dtype.names}, the descriptors {tuple(names)}."
        )
    if (empty := _empty_part(dtype)) is not None:
        raise BetonFormatError(f"the record type in the metadata: {empty} has zero bytes.")
    return dtype


def _empty_part(dtype: np.dtype[Any]) -> str | None:
    """Name the first part of a record dtype that has zero bytes; None if there is none."""
    if dtype.subdtype is not None and dtype.itemsize:
        return _empty_part(dtype.subdtype[0])
    if dtype.names:
        parts = ((name, dtype[name]) for name in dtype.names)
        return next((repr(name) for name, part in parts if _empty_part(part) is not None), None)
    return None if dtype.itemsize else str(dtype)


def _parse_descr(entries: Any) -> list[Any]:
    """Convert a descr from JSON to NumPy's form, which has tuples; only simple types are valid."""
    result: list[Any] = []
    for entry in entries:
        match entry:
            case [str(name), str(kind)] if _SIMPLE_DTYPE.fullmatch(kind):
                result.append((name, kind))
            case [str(name), list(parts)]:
                result.append((name, _parse_descr(parts)))
            case [str(name), str(kind), [*sides]] if _SIMPLE_DTYPE.fullmatch(kind) and all(
                type(side) is int and side >= 0 for side in sides
            ):
                result.append((name, kind, tuple(sides)))
            case _:
                raise ValueError(f"{entry!r} is not a field of a record")
    return result


def _class_name(name: str, metadata: Mapping[str, Any]) -> str:
    return str(metadata.get("fields", {}).get(name, {}).get("type", "unnamed"))
