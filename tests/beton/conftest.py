"""A small file with every field type, and helpers to damage it."""

import os
import shutil

import numpy as np
import pytest

from ffcv_ssl.beton import BetonReader, DatasetWriter
from ffcv_ssl.beton.format.layout import MIN_PAGE_SIZE
from ffcv_ssl.fields import (
    BytesField,
    FloatField,
    IntField,
    JSONField,
    NDArrayField,
    RGBImageField,
    TorchTensorField,
)

FIELDS = {
    "image": RGBImageField("raw"),
    "label": IntField(),
    "text": BytesField(),
    "weight": FloatField(),
    "info": JSONField(),
    "box": NDArrayField("<f4", (2, 3)),
    "tensor": TorchTensorField("int16", (5,)),
}


def sample(index):
    """One sample; the image encodes coordinates and index, sizes are odd and unequal.

    Every third text is empty.
    """
    rng = np.random.default_rng(index)
    rows, columns = np.mgrid[0 : 5 + 2 * index, 0:7]
    image = np.stack([rows * 9, columns * 20, rows * 0 + index], axis=-1).astype(np.uint8)
    text = bytes(rng.integers(0, 256, size=index % 3 * 4, dtype=np.uint8))
    box, tensor = (
        rng.normal(size=(2, 3)).astype("<f4"),
        rng.integers(-99, 99, size=5).astype(np.int16),
    )
    return image, index - 2, text, index / 3, {"index": index, "é": [None, 1.5]}, box, tensor


def equal(left, right):
    """Return whether two decoded values are equal bit for bit."""
    if hasattr(left, "shape"):
        left, right = np.asarray(left), np.asarray(right)
        return (
            left.dtype == right.dtype
            and left.shape == right.shape
            and left.tobytes() == right.tobytes()
        )
    return type(left) is type(right) and (left == right or (left != left and right != right))


class GoodFile:
    """The bytes of a valid file, the offsets of its sections, and its samples."""

    def __init__(self, path):
        self.samples = [sample(index) for index in range(6)]
        DatasetWriter(path, FIELDS, MIN_PAGE_SIZE, 0, progress=False).from_indexed_dataset(
            self.samples
        )
        self.path, self.data, self.names = path, path.read_bytes(), list(FIELDS)
        with BetonReader(path) as reader:
            self.record_size = reader.records.dtype.itemsize
            self.offsets = {name: reader.records.dtype.fields[name][1] for name in reader.fields}
        self.descriptors, self.records = 24, 24 + 1041 * len(FIELDS)
        self.records_end = self.records + self.record_size * len(self.samples)
        self.table = int.from_bytes(self.data[16:24], "little")
        self.block = self.table - int.from_bytes(
            self.data[self.table - 24 : self.table - 16], "little"
        )
        self.pages = MIN_PAGE_SIZE

    def without_extension(self):
        """Return the file as FFCV would write it, without extension block."""
        data = self.data[: self.block] + self.data[self.table :]
        return data[:16] + self.block.to_bytes(8, "little") + data[24:]

    def record_offset(self, sample_id, name):
        """Return the file offset of one field of one record."""
        return self.records + sample_id * self.record_size + self.offsets[name]


@pytest.fixture(scope="session")
def good(tmp_path_factory):
    """A file of six samples with all field types."""
    return GoodFile(tmp_path_factory.mktemp("good") / "good.beton")


@pytest.fixture
def write_bytes(tmp_path):
    """A function that writes bytes to a file, with edits: `write_bytes(data, {offset: bytes})`."""

    def write(data, edits=None):
        path = tmp_path / "broken.beton"
        path.write_bytes(data)
        with open(path, "r+b") as file:
            for offset, replacement in (edits or {}).items():
                file.seek(offset)
                file.write(replacement)
        return path

    return write


@pytest.fixture
def same_value():
    """Bitwise comparison of decoded values."""
    return equal


@pytest.fixture
def leftovers(tmp_path):
    """A function that lists the test folder and this process's files in /dev/shm."""
    shared_memory = "/dev/shm"

    def names():
        shared = os.listdir(shared_memory) if os.path.isdir(shared_memory) else []
        return sorted(os.listdir(tmp_path)), sorted(
            name for name in shared if f"-{os.getpid()}-" in name
        )

    return names


@pytest.fixture
def make_good(tmp_path, good):
    """A private copy of the good file."""
    return shutil.copy(good.path, tmp_path / "target.beton")
