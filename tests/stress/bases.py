"""Valid files to mutate: small, with every field type and every kind of checksum."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ffcv_ssl.beton import DatasetWriter
from ffcv_ssl.beton.format.layout import MIN_PAGE_SIZE
from ffcv_ssl.errors import FieldError
from ffcv_ssl.fields import (
    BytesField,
    Encoded,
    Field,
    FloatField,
    IntField,
    JSONField,
    NDArrayField,
    RGBImageField,
    TorchTensorField,
)
from tests.reference.images import photo_like
from tests.reference.jpeg import encode, subsampled
from tests.stress.parts import CHECKSUMS, Parts, take_apart

NUM_SAMPLES = 5


class PairField(Field):
    """Custom field with two bytes in the record and a payload that repeats them."""

    pointer_name = "offset"

    @property
    def record_dtype(self) -> np.dtype:
        return np.dtype([("pair", "u1", (2,)), ("count", "<u4"), ("offset", "<u8")])

    def encode(self, value: Any, sample_index: int, seed: int = 0) -> Encoded:
        return Encoded(bytes(value) * 3, (tuple(value), 3))

    def payload_size(self, records: np.ndarray) -> np.ndarray:
        return 2 * records["count"].astype(np.int64)

    def decode(self, record: Any, payload: bytes | memoryview) -> Any:
        if bytes(payload) != bytes(record["pair"]) * int(record["count"]):
            raise FieldError("the payload does not repeat the pair.")
        return tuple(int(number) for number in record["pair"])


@dataclass(frozen=True)
class Base:
    """One valid file.

    Parameters
    ----------
    name
        Content and checksums, as in "jpeg/values".
    parts
        Parts of the file; must not be changed.
    custom_fields
        Field classes to pass to the reader.
    """

    name: str
    parts: Parts
    custom_fields: Mapping[str, type[Field]]

    @property
    def checksums(self) -> str:
        """Kind of checksums, one of `CHECKSUMS`."""
        return self.name.rpartition("/")[2]


def jpegs() -> list[bytes]:
    """Return JPEGs of several kinds: subsampled, gray, progressive, with restart markers."""
    images = [photo_like(24 + 7 * i, 47 - 5 * i, i) for i in range(NUM_SAMPLES)]
    tall = photo_like(75, 31, 7)
    return [
        encode(images[0], subsampling="4:2:0", restart_marker_rows=1),
        subsampled(images[1], "4:2:2"),
        encode(images[2], progressive=True),
        encode(tall, subsampling="4:4:4", restart_marker_rows=1),
        encode(images[4], mode="L", quality=70),
    ]


def _contents() -> dict[str, tuple[dict[str, Field], list[tuple], Mapping[str, type[Field]]]]:
    """Return fields, samples and custom field classes of each file."""
    images = [photo_like(17, 24, i) for i in range(NUM_SAMPLES)]
    numbers = range(NUM_SAMPLES)
    custom = {"pair": PairField}
    mixed_fields = {
        "image": RGBImageField("raw"),
        "text": BytesField(),
        "note": JSONField(),
        "box": NDArrayField("<f4", (2, 3)),
        "tensor": TorchTensorField("int16", (5,)),
        "weight": FloatField(),
        "label": IntField(),
    }
    mixed = [
        (
            images[i],
            bytes(range(3 * i)),
            {"i": i, "é": [None, 1.5]},
            np.full((2, 3), i, "<f4"),
            np.arange(5, dtype="<i2") + i,
            i / 3,
            i,
        )
        for i in numbers
    ]
    pairs = [((i, 9), i, images[i]) for i in numbers]
    custom_fields = {"pair": PairField(), "label": IntField(), "image": RGBImageField("raw")}
    return {
        "jpeg": (
            {"image": RGBImageField("jpg"), "label": IntField()},
            list(zip(jpegs(), numbers, strict=True)),
            {},
        ),
        "mixed": (mixed_fields, mixed, {}),
        "custom": (custom_fields, pairs, custom),
        "opaque": (custom_fields, pairs, {}),
        "scalars": (
            {"weight": FloatField(), "label": IntField()},
            [(i / 7, i) for i in numbers],
            {},
        ),
    }


def make_bases(folder: Path) -> list[Base]:
    """Write the valid files into a folder, and return each with every kind of checksums."""
    bases = []
    for name, (fields, samples, custom_fields) in _contents().items():
        path = folder / f"{name}.beton"
        metadata = {"class_names": ["é", "b"], "source": {"kind": "drawn"}}
        DatasetWriter(
            path, fields, MIN_PAGE_SIZE, 0, metadata=metadata, progress=False
        ).from_indexed_dataset(samples)
        parts = take_apart(path)
        for checksums in CHECKSUMS:
            if name != "opaque" or checksums != "none":  # only the block stores its type
                bases.append(
                    Base(f"{name}/{checksums}", parts.with_checksums(checksums), custom_fields)
                )
    return bases
