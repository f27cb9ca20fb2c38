"""Samples for both writers: every field type, edge values, and images that reveal a wrong byte."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

RAW_SIZE = (97, 131)
"""Height and width of the `raw` images: odd, unequal, large enough for six pages of 2 MiB."""
JPEG_SIZE = (75, 110)
NDARRAY_SHAPE = (3, 5)
TENSOR_SHAPE = (2, 1, 4)
ROW_SHAPE = (7,)
TAGGED_RECORD = np.dtype([("tag", "<u4"), ("ptr", "<u8")])
"""Record of the custom field: a number and the pointer to some bytes."""
SMART_THRESHOLD = 12_000
"""Size in bytes above which the `smart` mode stores a JPEG: about half of `VariedImages`."""

FLOATS = (0.0, -0.0, 0.1, -1e300, 5e-324, float("inf"), float("-inf"), float("nan"), 1 / 3)
INTS = (0, -1, 255, 2**31, -(2**63), 2**63 - 1)
DOCUMENTS = (
    {},
    {"caption": "a cat, sleeping", "box": [1, 2.5, -3], "nested": {"none": None, "true": True}},
    {"unicode": "Überraschung 猫 🐈", "quotes": "\"'\\", "control": "a\tb\n"},
    {"long": "x" * 5000},
)


def drawn_image(height: int, width: int, seed: int) -> np.ndarray:
    """Return (height, width, 3) uint8: coordinates in two channels, waves in the third, noise."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:height, 0:width]
    waves = np.sin(rows / rng.uniform(4, 20) + rng.uniform(0, 6)) * np.cos(
        columns / rng.uniform(4, 20)
    )
    planes = np.stack([255 * rows / height, 255 * columns / width, 127.5 + 100 * waves], axis=-1)
    return np.clip(planes + rng.normal(0, 6, planes.shape), 0, 255).astype(np.uint8)


class AllFields(Sequence):
    """`count` samples with one value per field of `all_fields`; a pure function of the index."""

    def __init__(self, count: int):
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        index = range(self.count)[index]  # FFCV passes NumPy integers
        rng = np.random.default_rng(index)
        return (
            index,
            FLOATS[index % len(FLOATS)] if index % 2 else float(rng.normal()),
            INTS[index % len(INTS)],
            drawn_image(*RAW_SIZE, seed=index),
            drawn_image(*JPEG_SIZE, seed=1000 + index),
            rng.integers(0, 256, size=1 + index * 7 % 300, dtype=np.uint8),
            rng.normal(size=NDARRAY_SHAPE).astype(np.float32),
            rng.integers(0, 2**16, size=ROW_SHAPE).astype(np.int16),
            DOCUMENTS[index % len(DOCUMENTS)] | {"index": index},
            torch.from_numpy(rng.integers(-(2**62), 2**62, size=TENSOR_SHAPE)),
        )


class VariedImages(Sequence):
    """`count` images of different sizes with their indices; a pure function of the index."""

    def __init__(self, count: int):
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[int, np.ndarray]:
        index = range(self.count)[index]
        return index, drawn_image(40 + 13 * index % 61, 30 + 7 * index % 97, seed=index)


class TaggedBytes(Sequence):
    """`count` images and values (tag, bytes) of a custom field; a pure function of the index."""

    def __init__(self, count: int):
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[np.ndarray, tuple[int, np.ndarray]]:
        index = range(self.count)[index]
        return drawn_image(5, 7, seed=index), (
            2**32 - 1 - index,
            np.arange(index, 2 * index + 1, dtype=np.uint8),
        )


def all_fields(fields: Any) -> dict[str, Any]:
    """Return the fields of `AllFields`; `fields` is the module of FFCV or of ffcv_ssl."""
    return {
        "index": fields.IntField(),
        "float": fields.FloatField(),
        "int": fields.IntField(),
        "raw": fields.RGBImageField(write_mode="raw"),
        "jpeg": fields.RGBImageField(write_mode="jpg", jpeg_quality=90),
        "bytes": fields.BytesField(),
        "ndarray": fields.NDArrayField(np.dtype("<f4"), NDARRAY_SHAPE),
        "ndarray_i2": fields.NDArrayField(np.dtype("<i2"), ROW_SHAPE),
        "json": fields.JSONField(),
        "tensor": fields.TorchTensorField(torch.int64, TENSOR_SHAPE),
    }


def image_fields(fields: Any, **image_options: Any) -> dict[str, Any]:
    """Return the fields of `VariedImages`."""
    return {"index": fields.IntField(), "image": fields.RGBImageField(**image_options)}
