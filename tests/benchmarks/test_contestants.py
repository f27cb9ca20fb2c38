"""Code of the contestants that needs no peer: minimal reader, crop boxes, operations."""

import random

import numpy as np
import pytest

from ffcv_ssl.benchmarks.images import DrawnPhotos, photos, write
from ffcv_ssl.benchmarks.workloads import WORKLOADS, Epochs
from ffcv_ssl.fields import BytesField, FloatField, IntField, NDArrayField, RGBImageField
from ffcv_ssl.reader import Reader
from ffcv_ssl.writer import DatasetWriter


@pytest.mark.parametrize("mode", ["jpg", "raw"])
def test_stored_images__are_those_of_the_reader(tmp_path, contestant, mode):
    """The minimal reader returns the same bytes as ours, with fields of every alignment."""
    path = tmp_path / "mixed.beton"
    fields = {
        "text": BytesField(),
        "x": FloatField(),
        "image": RGBImageField(mode),
        "v": NDArrayField(np.dtype("f4"), (3,)),
        "n": IntField(),
    }
    rng = np.random.default_rng(0)
    samples = [
        (
            bytes(range(index)),
            0.5,
            rng.integers(0, 256, (17 + index, 31, 3), dtype=np.uint8),
            np.ones(3, "f4"),
            index,
        )
        for index in range(5)
    ]
    DatasetWriter(path, fields, num_workers=0, progress=False).from_indexed_dataset(samples)
    stored = contestant("stored").StoredImages(str(path), "image", 4)
    assert len(stored) == 4
    assert stored.is_raw == (mode == "raw")
    with Reader(str(path)) as reader:
        for index in range(4):
            expected = (
                reader.value(index, "image")
                if mode == "raw"
                else np.frombuffer(reader.read(index, "image"), np.uint8)
            )
            np.testing.assert_array_equal(stored.stored(index), expected)


@pytest.mark.parametrize("name", ["crop1", "linear", "emp20"])
def test_pillow__crops_inside_the_image(contestant, name):
    """Every box lies inside the image, also if no drawn box fits."""
    box_of = contestant("pillow_chain").crop_box
    (view,) = WORKLOADS[name].views
    random.seed(0)
    for size in ((500, 375), (32, 32), (400, 17)) if name != "emp20" else ((32, 32), (16, 40)):
        for _ in range(50):
            left, top, right, bottom = box_of(size, vars(view))
            assert 0 <= left < right <= size[0]
            assert 0 <= top < bottom <= size[1]


def test_ours__builds_every_operation_of_a_view(contestant):
    """The pipeline has each operation of a workload once, and none with probability 0."""
    chain = contestant("ours").view_transforms
    names = [type(step).__name__ for step in chain(vars(WORKLOADS["ladder_solarize"].views[0]))]
    expected = [
        "RandomResizedCrop",
        "RandomHorizontalFlip",
        "RandomColorJitter",
        "RandomGrayscale",
        "GaussianBlur",
        "RandomSolarization",
    ]
    assert names == expected
    assert [type(step).__name__ for step in chain(vars(WORKLOADS["linear"].views[0]))] == [
        "CenterCrop"
    ]


def test_photos__are_written_with_restart_markers(tmp_path):
    """JPEGs of a folder are re-encoded with restart markers and a longest side of 500."""
    from PIL import Image

    (tmp_path / "in").mkdir()
    Image.fromarray(DrawnPhotos(1, (600, 800))[0][0]).save(tmp_path / "in" / "a.jpg")
    images = photos(tmp_path / "in", tmp_path, 10)
    with Reader(str(images.path)) as reader:
        assert reader.records["image"]["width"][0] == 500
        assert b"\xff\xdd" in reader.read(0, "image")


def test_jobs__are_json_that_every_view_is_in(tmp_path):
    """Every job is JSON-serializable, and its view counts are consistent."""
    import json

    images = photos(None, tmp_path, 3)
    for workload in WORKLOADS.values():
        job = json.loads(json.dumps(workload.job(images, 2, Epochs(1))))
        assert job["num_views"] == sum(view["count"] for view in job["views"])
        assert job["num_images"] == 4002  # 1,334 times 3


def test_write__returns_the_seconds_it_took(tmp_path):
    """`write` returns a positive time and creates the file."""
    assert write(tmp_path / "a.beton", RGBImageField("raw"), DrawnPhotos(2, (8, 9))) > 0
    assert (tmp_path / "a.beton").exists()
