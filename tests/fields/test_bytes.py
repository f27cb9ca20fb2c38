"""The fields for bytes and JSON."""

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
    """Bytes, strided views, and one-dimensional uint8 arrays and tensors are stored in order."""
    encoded = BytesField().encode(value, 0)
    assert bytes(encoded.payload) == b"abcdef"
    assert encoded.record == (6,)
    assert BytesField().record(encoded, 4096) == (4096, 6)
    assert BytesField().decode(None, memoryview(b"abcdef")) == b"abcdef"


def test_bytes__may_be_empty():
    """An empty value has size 0."""
    for value in (b"", np.zeros(0, np.uint8)):
        encoded = BytesField().encode(value, 0)
        assert (bytes(encoded.payload), encoded.record) == (b"", (0,))


@pytest.mark.parametrize(
    "value",
    ["text", None, 5, [1, 2], np.zeros(3, np.int8), np.zeros((2, 2), np.uint8), torch.zeros(2)],
)
def test_bytes__refuses_everything_else(value):
    """Other values are errors that name the type of the value."""
    with pytest.raises(FieldError, match="wanted bytes or a one-dimensional uint8 array, got"):
        BytesField().encode(value, 0)


def test_bytes__clips_sizes_beyond_int64():
    """A size of 2**64 - 1 in a file does not become small or negative."""
    records = np.array([(0, 2**64 - 1), (0, 7)], dtype=BytesField().record_dtype)
    assert list(BytesField().payload_size(records)) == [2**63 - 1, 7]


@pytest.mark.parametrize(
    "value",
    [None, True, -1.5, 10**30, "é \0 🐈", [1, [2, []]], {"a": {"b": None}}, {}, float("inf")],
)
def test_json__round_trips(value):
    """A value survives the round trip; the text ends with the only NUL."""
    encoded = JSONField().encode(value, 0)
    assert bytes(encoded.payload).count(b"\0") == 1
    assert encoded.payload[-1:] == b"\0"
    assert encoded.record == (len(encoded.payload),)
    assert JSONField().decode(None, encoded.payload) == value


def test_json__reads_utf_8():
    """Unescaped UTF-8 of other writers is decoded."""
    assert JSONField().decode(
        None, json.dumps({"ü": "猫"}, ensure_ascii=False).encode() + b"\0"
    ) == {"ü": "猫"}


@pytest.mark.parametrize("value", [{1, 2}, b"bytes", object(), {(1, 2): 3}, np.zeros(2)])
def test_json__refuses_everything_else(value):
    """Values that JSON cannot represent are errors, including circular references."""
    circle = []
    circle.append(circle)
    for each in (value, circle):
        with pytest.raises(FieldError, match="not a value for JSON"):
            JSONField().encode(each, 0)


@pytest.mark.parametrize(
    "payload", [b"", b"{}", b"\0", b"{]\0", b"\xff\0", b"{}\0\0", b"[" * 100_000 + b"\0"]
)
def test_json__refuses_invalid_text(payload):
    """Text without a NUL, invalid JSON and excessive nesting are errors."""
    with pytest.raises(FieldError, match="stored JSON"):
        JSONField().decode(None, payload)
