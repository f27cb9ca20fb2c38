"""Small files for the loader's tests."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ffcv_ssl.fields import FloatField, IntField, JSONField, NDArrayField
from ffcv_ssl.fields.image import RGBImageField
from ffcv_ssl.writer import DatasetWriter
from tests.reference.device import ReferenceDevice
from tests.reference.images import photo_like


def write(path, fields, samples):
    """Write samples (a list of tuples) in this process."""
    DatasetWriter(path, fields, num_workers=0, progress=False).from_indexed_dataset(samples)
    return str(path)


@pytest.fixture(scope="session")
def raw_images():
    """Forty images of one size."""
    return [photo_like(21, 27, seed) for seed in range(40)]


@pytest.fixture(scope="session")
def raw_file(tmp_path_factory, raw_images):
    """Raw images of one size with their index and its half."""
    fields = {"image": RGBImageField(write_mode="raw"), "label": IntField(), "half": FloatField()}
    samples = [(image, i, i / 2) for i, image in enumerate(raw_images)]
    return write(tmp_path_factory.mktemp("raw") / "raw.beton", fields, samples)


@pytest.fixture(scope="session")
def jpeg_images():
    """Twenty-three JPEGs of different sizes."""
    images = []
    for seed in range(23):
        buffer = io.BytesIO()
        Image.fromarray(photo_like(30 + seed, 47 - seed, seed)).save(buffer, "JPEG", quality=90)
        images.append(buffer.getvalue())
    return images


@pytest.fixture(scope="session")
def jpeg_file(tmp_path_factory, jpeg_images):
    """JPEGs of different sizes with label, array and JSON."""
    fields = {
        "image": RGBImageField(write_mode="jpg"),
        "label": IntField(),
        "vector": NDArrayField(np.dtype("<f4"), (3,)),
        "note": JSONField(),
    }
    samples = [
        (image, i, np.arange(3, dtype="<f4") + i, {"i": i}) for i, image in enumerate(jpeg_images)
    ]
    return write(tmp_path_factory.mktemp("jpeg") / "jpeg.beton", fields, samples)


@pytest.fixture
def damaged_file(tmp_path, jpeg_images):
    """As `jpeg_file`, but the entropy-coded data of sample 7 is damaged."""
    path = write(
        tmp_path / "damaged.beton",
        {"image": RGBImageField(write_mode="jpg"), "label": IntField()},
        list(zip(jpeg_images, range(23), strict=True)),
    )
    data = bytearray(Path(path).read_bytes())
    start = data.find(jpeg_images[7]) + len(jpeg_images[7]) // 2
    data[start : start + 40] = b"\xff\xd9" * 20
    Path(path).write_bytes(data)
    return path


@pytest.fixture
def devices(monkeypatch):
    """The devices that loaders have opened."""
    opened = []

    def open_device(device):
        opened.append(ReferenceDevice(device))
        return opened[-1]

    monkeypatch.setattr("ffcv_ssl.loader.render.gpu_device.open_device", open_device)
    return opened
