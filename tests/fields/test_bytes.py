"""Bytes and JSON."""

import json

import numpy as np
import pytest
import torch

from ffcv_ssl.errors import FieldError
from ffcv_ssl.fields import BytesField, JSONField


@pytest.mark.parametrize(
    "value",
    [
        b"abcdef",
        bytearray(b"abcdef"),
        memoryview(b"abcdef"),
        memoryview(b"a-b-c-d-e-f")[::2],
        np.frombuffer(b"abcdef", np.uint8),
        np.frombuffer(b"a-b-c-d-e-f", np.uint8)[::2],
        np.frombuffer(b"fedcba", np.uint8)[::-1],
        torch.tensor(list(b"abcdef"), dtype=torch.uint8),
    ],
)
def test_bytes__takes_bytes_of_any_origin(value):
    """Bytes, views with any stride, and one-dimensional uint8 arrays and tensors are stored in their order."""
    encoded = BytesField().encode(value, 0)
    assert bytes(encoded.payload) == b"abcdef"
    assert encoded.record == (6,)
    assert BytesField().record(encoded, 4096) == (4096, 6)
    assert BytesField().decode(None, memoryview(b"abcdef")) == b"abcdef"


def test_bytes__may_be_empty():
    """Nothing is a value of size 0."""
    for value in (b"", np.zeros(0, np.uint8)):
        encoded = BytesField().encode(value, 0)
        assert (bytes(encoded.payload), encoded.record) == (b"", (0,))


@pytest.mark.parametrize(
    "value",
    ["text", None, 5, [1, 2], np.zeros(3, np.int8), np.zeros((2, 2), np.uint8), torch.zeros(2)],
)
def test_bytes__refuses_everything_else(value):
    """Texts, numbers, lists and arrays of other types or dimensions are errors that say what came."""
    with pytest.raises(FieldError, match="wanted bytes or a one-dimensional uint8 array, got"):
        BytesField().encode(value, 0)


def test_bytes__sizes_beyond_int64_stay_large():
    """A size of 2**64 - 1 in a file is not taken for a small or a negative one."""
    records = np.array([(0, 2**64 - 1), (0, 7)], dtype=BytesField().record_dtype)
    assert list(BytesField().payload_size(records)) == [2**63 - 1, 7]


@pytest.mark.parametrize(
    "value",
    [None, True, -1.5, 10**30, "é \0 🐈", [1, [2, []]], {"a": {"b": None}}, {}, float("inf")],
)
def test_json__gives_back_what_json_can_hold(value):
    """A value goes there and back; the text ends with one NUL, and has no other."""
    encoded = JSONField().encode(value, 0)
    assert bytes(encoded.payload).count(b"\0") == 1
    assert encoded.payload[-1:] == b"\0"
    assert encoded.record == (len(encoded.payload),)
    assert JSONField().decode(None, encoded.payload) == value


def test_json__reads_utf_8():
    """Text that others wrote without escapes is read too."""
    assert JSONField().decode(
        None, json.dumps({"ü": "猫"}, ensure_ascii=False).encode() + b"\0"
    ) == {"ü": "猫"}


@pytest.mark.parametrize("value", [{1, 2}, b"bytes", object(), {(1, 2): 3}, np.zeros(2)])
def test_json__refuses_everything_else(value):
    """What JSON cannot hold is an error, circles and endless nesting included."""
    circle = []
    circle.append(circle)
    for each in (value, circle):
        with pytest.raises(FieldError, match="not a value for JSON"):
            JSONField().encode(each, 0)


@pytest.mark.parametrize(
    "payload", [b"", b"{}", b"\0", b"{]\0", b"\xff\0", b"{}\0\0", b"[" * 100_000 + b"\0"]
)
def test_json__refuses_broken_text(payload):
    """Text without its NUL, that is no JSON, or that is nested without end is an error."""
    with pytest.raises(FieldError, match="stored JSON"):
        JSONField().decode(None, payload)
