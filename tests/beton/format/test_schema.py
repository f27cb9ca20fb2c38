"""Fields and metadata, checked on writing and rebuilt on reading."""

import json
from typing import ClassVar

import numpy as np
import pytest

from ffcv_ssl.beton.format.layout import descriptors_to_bytes, parse_descriptors, record_dtype
from ffcv_ssl.beton.format.metadata import check_metadata
from ffcv_ssl.beton.format.schema import check_fields, dtype_to_json, parse_schema
from ffcv_ssl.errors import BetonFormatError, ConfigError, FieldError, UnknownFieldType
from ffcv_ssl.fields import Encoded, Field, FloatField, IntField, RGBImageField


class PairField(Field):
    """A custom field of two numbers in the record."""

    def __init__(self, scale=1):
        self.scale = scale

    @property
    def record_dtype(self):
        return np.dtype([("x", "<i2"), ("y", "<f4")])

    def arguments(self):
        return bytes([self.scale])

    @classmethod
    def from_arguments(cls, arguments):
        return cls(arguments[0])

    def encode(self, value, sample_index, seed=0):
        return Encoded(None, (value[0] * self.scale, value[1]))

    def decode(self, record, payload):
        return int(record["x"]) // self.scale, float(record["y"])


FIELDS = {"image": RGBImageField("raw"), "pair": PairField(3), "label": IntField()}
METADATA = {
    "record": json.loads(json.dumps(dtype_to_json(record_dtype(FIELDS)))),
    "fields": {"pair": {"type": "PairField"}},
}


def descriptors(fields):
    """Descriptors after a round trip through bytes."""
    return parse_descriptors(descriptors_to_bytes(fields))


def test_schema__builds_custom_fields_from_their_arguments():
    """The class of a custom field parses its arguments; the record dtype is that of the writer."""
    fields, dtype = parse_schema(descriptors(FIELDS), {"pair": PairField}, {})
    assert fields["pair"].scale == 3
    assert dtype == record_dtype(FIELDS)


def test_schema__lists_custom_fields_without_their_class():
    """Metadata provides the record dtype of an unknown field; decoding it names the remedy."""
    fields, dtype = parse_schema(descriptors(FIELDS), {}, METADATA)
    assert dtype.itemsize == record_dtype(FIELDS).itemsize
    assert [dtype.fields[name][1] for name in FIELDS] == [
        record_dtype(FIELDS).fields[name][1] for name in FIELDS
    ]
    assert dtype["image"] == FIELDS["image"].record_dtype
    with pytest.raises(FieldError, match=r"PairField.*custom_fields"):
        fields["pair"].decode(np.zeros(1, dtype["pair"])[0], b"")


def test_schema__refuses_custom_fields_of_unknown_dtype():
    """Without class and metadata, as in FFCV's files, the record dtype is unknown."""
    with pytest.raises(UnknownFieldType, match="'pair' is a custom field"):
        parse_schema(descriptors(FIELDS), {}, {})


def test_schema__refuses_unknown_types():
    """The error for an unknown type id names the field."""
    data = bytearray(descriptors_to_bytes({"x": IntField()}))
    data[0] = 77
    with pytest.raises(UnknownFieldType, match="field 'x': unknown field type 77"):
        parse_schema(parse_descriptors(bytes(data)), {}, {})


@pytest.mark.parametrize(
    "record",
    [
        None,
        7,
        "<i8",
        [],
        [["image", "<u4"]],
        [["image", "|O"], ["pair", "<i2"], ["label", "<i8"]],
        [["image", "(2,)<i2"], ["pair", "<i2"], ["label", "<i8"]],
        [["image", [["mode", "|u1"]]], ["pair", "<i2"], ["label", "<i8"]],
        [["pair", "<i2"], ["image", "|V13"], ["label", "<i8"]],
        [["image", "|V13"], ["pair", "<i2", [-1]], ["label", "<i8"]],
        [["image", "|V13"], ["pair", "|V999999999999"], ["label", "<i8"]],
    ],
)
def test_schema__refuses_invalid_record_types(record):
    """The record dtype of an untrusted file is validated before it is used."""
    with pytest.raises(BetonFormatError):
        parse_schema(descriptors(FIELDS), {}, {"record": record})


class WithArguments(FloatField):
    """A field with the arguments that a test sets."""

    stored: ClassVar[bytes] = b""

    def arguments(self):
        return self.stored


class Forgetful(PairField):
    """A field that does not store its arguments."""

    @classmethod
    def from_arguments(cls, arguments):
        return FloatField()


class HoldsObjects(PairField):
    """A field whose records are Python objects."""

    @property
    def record_dtype(self):
        return np.dtype("O")


class NotForJson(PairField):
    """A field whose description is not valid JSON."""

    def describe(self):
        return {"type": type}


def test_fields__are_refused_before_anything_is_written(monkeypatch):
    """`check_fields` rejects fields that a file cannot hold or restore."""
    monkeypatch.setattr(WithArguments, "stored", bytes(1025))
    for fields in (
        {},
        {"x": int},
        {1: IntField()},
        {"x" * 17: IntField()},
        {"x": WithArguments()},
        {"x": Forgetful()},
        {"x": HoldsObjects()},
        {"x": NotForJson()},
    ):
        with pytest.raises(FieldError):
            check_fields(fields)
    monkeypatch.setattr(WithArguments, "stored", bytes(1024))
    assert list(check_fields({"x": WithArguments()})) == ["x"]


@pytest.mark.parametrize(
    "metadata", [{"fields": 1}, {"class_names": "cat"}, {"class_names": [1]}, {"x": object()}]
)
def test_metadata__is_refused_if_it_cannot_be_stored(metadata):
    """Reserved names, class names that are not strings, and Python objects are errors."""
    with pytest.raises(ConfigError, match="metadata"):
        check_metadata(metadata)


def test_metadata__equals_what_the_reader_returns():
    """Tuples become lists when the writer is built, and the caller's objects are copied."""
    names = ["a"]
    checked = check_metadata({"class_names": names, "shape": (1, 2)})
    names.append("b")
    assert checked == {"class_names": ["a"], "shape": [1, 2]}
