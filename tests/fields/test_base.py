"""The registry of fields, and the base class."""

import pytest

from ffcv_ssl import fields as fields_package
from ffcv_ssl.errors import UnknownFieldType
from ffcv_ssl.fields import (
    BytesField,
    FloatField,
    IntField,
    JSONField,
    NDArrayField,
    RGBImageField,
    TorchTensorField,
)
from ffcv_ssl.fields.base import Field, field_type, register

TYPES = {
    0: FloatField,
    1: IntField,
    2: RGBImageField,
    3: BytesField,
    4: NDArrayField,
    5: JSONField,
    6: TorchTensorField,
}


def test_registry__has_the_type_ids_of_the_format():
    """The seven built-in fields have FFCV's type ids."""
    assert {number: field_type(number) for number in TYPES} == TYPES
    assert all(field_class.__name__ in fields_package.__all__ for field_class in TYPES.values())


@pytest.mark.parametrize("number", [7, 77, 254, 255])
def test_registry__refuses_unknown_ids(number):
    """An unknown type id is an error that lists the known ones."""
    with pytest.raises(UnknownFieldType, match=rf"unknown field type {number}.*2 RGBImageField"):
        field_type(number)


def test_registry__refuses_a_second_class():
    """A second class cannot register a built-in type id."""
    with pytest.raises(ValueError, match="belongs to IntField"):
        register(type("Other", (IntField,), {}))


def test_fields__compare_and_show_their_arguments():
    """Fields with equal arguments are equal, and the repr shows the arguments."""
    assert NDArrayField("f4", (2, 3)) == NDArrayField("<f4", [2, 3]) != NDArrayField("f4", (3, 2))
    assert len({IntField(), IntField(), FloatField()}) == 2
    assert repr(NDArrayField("f4", (2, 3))) == "NDArrayField(dtype='<f4', shape=[2, 3])"


def test_fields__are_custom_by_default():
    """A subclass without a type id of its own is a custom field."""
    assert Field.type_id == 255
