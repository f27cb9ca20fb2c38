"""The fields for integers and floats."""

import math

import numpy as np
import pytest
import torch

from ffcv_ssl.errors import FieldError
from ffcv_ssl.fields import FloatField, IntField, basics


@pytest.mark.parametrize(
    "value",
    [
        0,
        -1,
        2**63 - 1,
        -(2**63),
        True,
        np.int8(-7),
        np.uint64(5),
        np.bool_(True),
        np.array(3),
        torch.tensor(3),
        torch.tensor(True),
    ],
)
def test_int__takes_integers_of_any_origin(value):
    """Integers and booleans of Python, NumPy and torch are stored without payload."""
    encoded = IntField().encode(value, 0)
    assert encoded.payload is None
    assert encoded.record == (int(value),)
    assert type(encoded.record[0]) is int
    assert IntField().decode(np.int64(encoded.record[0]), b"") == int(value)


@pytest.mark.parametrize(
    "value",
    [
        3.0,
        "3",
        None,
        2**63,
        -(2**63) - 1,
        np.float32(3),
        np.array([3]),
        np.array(3.0),
        torch.tensor(3.0),
        torch.tensor([3]),
        np.uint64(2**63),
    ],
)
def test_int__refuses_everything_else(value):
    """Other values and numbers beyond 64 bits are errors that show the value."""
    with pytest.raises(FieldError, match=r"wanted an integer, got|does not fit an int64"):
        IntField().encode(value, 0)


@pytest.mark.parametrize(
    "value",
    [
        0.5,
        -0.0,
        math.inf,
        3,
        2**53,
        np.float16(0.1),
        np.float32(0.1),
        np.array(2.5),
        torch.tensor(2.5),
        np.int32(4),
    ],
)
def test_float__takes_real_numbers_of_any_origin(value):
    """Numbers of Python, NumPy and torch become the float64 of the same value."""
    stored = FloatField().encode(value, 0).record[0]
    assert type(stored) is float
    assert stored == float(value)
    assert math.copysign(1, stored) == math.copysign(1, float(value))


def test_float__keeps_nan():
    """NaN is stored."""
    assert math.isnan(FloatField().encode(float("nan"), 0).record[0])


@pytest.mark.parametrize(
    "value",
    ["0.5", None, 1j, True, 2**53 + 1, 10**400, np.array([0.5]), torch.tensor([0.5]), [0.5]],
)
def test_float__refuses_everything_else(value):
    """Other values, and integers that a float64 cannot represent, are errors."""
    with pytest.raises(FieldError, match=r"wanted a real number|float64"):
        FloatField().encode(value, 0)


def test_basics__re_exports_the_fields():
    """FFCV's import path leads to the same classes."""
    assert (basics.IntField, basics.FloatField) == (IntField, FloatField)
