"""The fields for arrays and tensors of one dtype and shape."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from ffcv_ssl.errors import FieldError
from ffcv_ssl.fields import NDArrayField, TorchTensorField


def descriptor(field):
    """Return the arguments of a field as stored in a file."""
    return field.arguments().ljust(1024, b"\0")


@pytest.mark.parametrize(
    "dtype", ["?", "u1", "<i2", "f2", "f4", "f8", "c16", "S7", "U3", "M8[s]", "m8[ns]"]
)
@pytest.mark.parametrize("shape", [(1,), (3, 5), (2, 1, 4), (1,) * 32])
def test_array__schema_survives_the_descriptor(dtype, shape):
    """Dtype and shape survive the round trip, for all plain dtypes and up to 32 dimensions."""
    field = NDArrayField(dtype, shape)
    assert NDArrayField.from_arguments(descriptor(field)) == field
    assert field.size_bytes == np.zeros(shape, dtype).nbytes
    assert json.loads(json.dumps(field.describe())) == field.describe()


def test_array__descriptor_has_ffcvs_layout():
    """The layout is the shape as 32 numbers, the length of the text, and NumPy's descr as JSON."""
    arguments = NDArrayField("f4", (3, 5)).arguments()
    numbers = np.frombuffer(arguments[:264], "<u8")
    assert list(numbers[:3]) == [3, 5, 0]
    assert numbers[32] == len(arguments) - 264
    assert json.loads(arguments[264:]) == [["", "<f4"]]


@pytest.mark.parametrize(
    "value",
    [
        np.arange(15, dtype="<f4").reshape(3, 5),
        np.arange(15, dtype=">f4").reshape(3, 5),
        np.asfortranarray(np.arange(15, dtype="f4").reshape(3, 5)),
        np.arange(60, dtype="f4").reshape(6, 10)[::2, ::2] * 0
        + np.arange(15, dtype="f4").reshape(3, 5),
        np.arange(15, dtype="f4")[::-1].reshape(3, 5)[::-1, ::-1],
        torch.arange(15, dtype=torch.float32).reshape(3, 5),
        torch.arange(15, dtype=torch.float32).reshape(5, 3).T.contiguous().reshape(3, 5) * 0
        + torch.arange(15.0).reshape(3, 5),
        torch.arange(15.0, requires_grad=True).reshape(3, 5),
    ],
)
def test_array__memory_order_does_not_matter(value):
    """Any byte order, stride or library yields the same little-endian bytes in C order."""
    expected = np.arange(15, dtype="<f4").reshape(3, 5)
    for field in (NDArrayField("f4", (3, 5)), TorchTensorField(torch.float32, (3, 5))):
        assert bytes(field.encode(value, 0).payload) == expected.tobytes()


def test_array__may_be_read_only():
    """Read-only arrays are stored."""
    value = np.arange(4, dtype="i8")
    value.flags.writeable = False
    assert bytes(NDArrayField("i8", (4,)).encode(value, 0).payload) == value.tobytes()


def test_array__is_decoded_into_its_own_memory():
    """A decoded array may be modified; a tensor field yields a tensor."""
    payload = np.arange(4, dtype="<i2").tobytes()
    array = NDArrayField("i2", (2, 2)).decode(None, payload)
    array += 1
    assert array.tolist() == [[1, 2], [3, 4]]
    tensor = TorchTensorField("int16", (2, 2)).decode(None, payload)
    assert torch.equal(tensor, torch.tensor([[0, 1], [2, 3]], dtype=torch.int16))


@pytest.mark.parametrize(
    "value",
    [
        np.zeros((5, 3), "f4"),
        np.zeros((3, 5), "i4"),
        np.zeros((3, 5), "f8"),
        np.zeros(15, "f4"),
        [[0.0] * 5] * 3,
        None,
    ],
)
def test_array__refuses_other_types_and_shapes(value):
    """Nothing is cast or reshaped: the message names the expected and the given array."""
    with pytest.raises(FieldError, match=r"wanted an array of float32 and shape \(3, 5\)"):
        NDArrayField("f4", (3, 5)).encode(value, 0)


@pytest.mark.parametrize(
    "dtype", ["O", "f4,f4", "(2,)f4", "V8", "S0", "no such type", None.__class__, torch.bfloat16]
)
def test_array__refuses_types_that_the_format_cannot_hold(dtype):
    """Objects, structures, raw memory, empty dtypes and bfloat16 are errors of the constructor."""
    with pytest.raises(FieldError, match="dtype"):
        TorchTensorField(dtype, (2,))


@pytest.mark.parametrize(
    "shape", [(), (0,), (3, 0), (-1,), (2.0,), 3, (1,) * 33, (2**40, 2**40), (1 << 30, 2)]
)
def test_array__refuses_shapes_that_the_format_cannot_hold(shape):
    """Invalid numbers of dimensions, sides below 1 and too many bytes are errors."""
    with pytest.raises(FieldError, match=r"shape|2\*\*30"):
        NDArrayField("f4", shape)


def test_tensor__field_does_not_import_torch():
    """The field of tensors does not import torch."""
    code = (
        "import sys; from ffcv_ssl.fields import TorchTensorField; "
        "TorchTensorField('float32', (2,)); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
