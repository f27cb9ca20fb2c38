"""Fields and metadata on their way into a file and out of it: descriptors, record type, custom fields."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ffcv_ssl.beton.format.layout import MAX_FIELDS, Descriptor, descriptors_to_bytes, record_dtype
from ffcv_ssl.errors import BetonFormatError, FieldError, UnknownFieldType
from ffcv_ssl.fields.base import ARGUMENTS_SIZE, CUSTOM_TYPE_ID, Field, field_type
from ffcv_ssl.fields.custom import OpaqueField

_PLAIN_TYPE = re.compile(r"[<>|][biufcSUMmV][0-9]{1,9}(\[[0-9a-zA-Z]+\])?")


def parse_schema(
    descriptors: Sequence[Descriptor],
    custom_fields: Mapping[str, type[Field]],
    metadata: Mapping[str, Any],
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
            stored_dtype = stored_dtype or _recorded_dtype(
                [each.name for each in descriptors], name, metadata
            )
            fields[name] = OpaqueField(_class_name(name, metadata), stored_dtype[name])
            continue
        try:
            field_class = (
                custom_fields[name] if name in custom_fields else field_type(descriptor.type_id)
            )
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
                f"field {name!r}: the metadata says its record is {stored_dtype[name]}, wanted {field.record_dtype}."
            )
    return fields, stored_dtype


def check_fields(fields: Mapping[str, Field]) -> dict[str, Field]:
    """The fields, if a file can hold them and give them back."""
    if not 1 <= len(fields) <= MAX_FIELDS:
        raise FieldError(f"a file has 1 to {MAX_FIELDS} fields, got {len(fields)}.")
    for name, field in fields.items():
        if not isinstance(name, str) or not isinstance(field, Field):
            raise FieldError(f"fields map names to Field objects, got {name!r}: {field!r}.")
    descriptors_to_bytes(fields)
    for name, field in fields.items():
        if field.record_dtype.hasobject:
            raise FieldError(
                f"field {name!r}: its record type {field.record_dtype} holds Python objects."
            )
        if _empty_part(field.record_dtype) is not None:
            raise FieldError(
                f"field {name!r}: its record type {field.record_dtype} holds a part of no bytes."
            )
        restored = type(field).from_arguments(field.arguments().ljust(ARGUMENTS_SIZE, b"\0"))
        if restored.record_dtype != field.record_dtype:
            raise FieldError(
                f"field {name!r}: its arguments do not give back its record type {field.record_dtype}."
            )
        try:
            json.dumps(field.describe())
        except (TypeError, ValueError) as error:
            raise FieldError(f"field {name!r}: describe() is not fit for JSON: {error}.") from error
    return dict(fields)


def dtype_to_json(dtype: np.dtype) -> list:
    """NumPy's descr of a record type, padding included; JSON makes its tuples lists."""
    return np.lib.format.dtype_to_descr(dtype)


def _recorded_dtype(
    names: Sequence[str], custom_name: str, metadata: Mapping[str, Any]
) -> np.dtype:
    """The record type that the writer noted in the metadata."""
    if "record" not in metadata:
        raise UnknownFieldType(
            f"field {custom_name!r} is a custom field; open the file with custom_fields={{{custom_name!r}: its class}}."
        )
    try:
        dtype = np.lib.format.descr_to_dtype(_descr(metadata["record"]))
    except (TypeError, ValueError, RecursionError, MemoryError) as error:
        raise BetonFormatError(
            f"the record type in the metadata cannot be read: {error}."
        ) from error
    if dtype.names != tuple(names):
        raise BetonFormatError(
            f"the metadata describes the fields {dtype.names}, the descriptors {tuple(names)}."
        )
    if (empty := _empty_part(dtype)) is not None:
        raise BetonFormatError(f"the record type in the metadata: {empty} takes no bytes.")
    return dtype


def _empty_part(dtype: np.dtype) -> str | None:
    """The first part of a record type that takes no bytes, in words; None if there is none."""
    if dtype.subdtype is not None and dtype.itemsize:
        return _empty_part(dtype.subdtype[0])
    if dtype.names:
        parts = ((name, dtype[name]) for name in dtype.names)
        return next((repr(name) for name, part in parts if _empty_part(part) is not None), None)
    return None if dtype.itemsize else str(dtype)


def _descr(entries: Any) -> list:
    """A descr with its tuples back, made only of plain types."""
    result: list = []
    for entry in entries:
        match entry:
            case [str(name), str(kind)] if _PLAIN_TYPE.fullmatch(kind):
                result.append((name, kind))
            case [str(name), list(parts)]:
                result.append((name, _descr(parts)))
            case [str(name), str(kind), [*sides]] if _PLAIN_TYPE.fullmatch(kind) and all(
                type(side) is int and side >= 0 for side in sides
            ):
                result.append((name, kind, tuple(sides)))
            case _:
                raise ValueError(f"{entry!r} is not a field of a record")
    return result


def _class_name(name: str, metadata: Mapping[str, Any]) -> str:
    return metadata.get("fields", {}).get(name, {}).get("type", "unnamed")
