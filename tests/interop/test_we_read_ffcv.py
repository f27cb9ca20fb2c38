"""Our reader and loader read files of FFCV 1.0.2."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import simplejpeg
import torch

from ffcv_ssl import fields
from ffcv_ssl.loader import Loader, OrderOption
from ffcv_ssl.reader import Reader
from ffcv_ssl.writer import DatasetWriter
from tests.interop import samples
from tests.interop.custom import TaggedBytesField
from tests.interop.equality import assert_equal

pytestmark = [pytest.mark.interop, pytest.mark.timeout(900)]

THEIRS = "FFCV's, read by us"
NUM_SAMPLES = 300
NUM_IMAGES = 60
SMALL_PAGE = 1 << 21
JPEG_QUALITY = 90


def ffcvs_jpeg(image: np.ndarray) -> bytes:
    """Encode like FFCV's writer: OpenCV, quality 90."""
    return cv2.imencode(
        ".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    )[1].tobytes()


@pytest.fixture(scope="module")
def theirs(tmp_path_factory, peer) -> Path:
    """Every field type in one file of FFCV's writer."""
    path = tmp_path_factory.mktemp("theirs") / "all.beton"
    peer("write", path, samples=NUM_SAMPLES, page_size=SMALL_PAGE)
    return path


@pytest.fixture(scope="module")
def their_images(tmp_path_factory, peer):
    """Return a function that writes `VariedImages` with FFCV."""
    folder = tmp_path_factory.mktemp("images")

    def write(name: str, **options) -> Path:
        path = folder / f"{name}.beton"
        peer("write", path, dataset="VariedImages", samples=NUM_IMAGES, **options)
        return path

    return write


def test_every_field__equals_what_was_written(theirs, compared):
    """Every value of FFCV's file is read bit for bit, JPEGs as the bytes of FFCV's encoder."""
    expected = dict(
        zip(
            samples.all_fields(fields),
            zip(*samples.AllFields(NUM_SAMPLES), strict=True),
            strict=True,
        )
    )
    with Reader(str(theirs)) as reader:
        assert list(reader.fields) == list(expected)
        assert reader.metadata == {}
        for name, values in expected.items():
            if name == "jpeg":
                found, values = (
                    [reader.read(index, name) for index in range(NUM_SAMPLES)],
                    [ffcvs_jpeg(image) for image in values],
                )
            else:
                found = [reader.value(index, name) for index in range(NUM_SAMPLES)]
            compared(
                THEIRS,
                name,
                "reader" + " (bytes)" * (name == "jpeg"),
                assert_equal(found, values, name),
            )


def test_descriptors__give_the_same_fields(theirs):
    """Field classes, dtypes and shapes equal those in FFCV's descriptors."""
    with Reader(str(theirs)) as reader:
        for name, field in samples.all_fields(fields).items():
            assert type(reader.fields[name]) is type(field)
            assert reader.fields[name].record_dtype == field.record_dtype
        assert reader.page_size == SMALL_PAGE


def test_stored_bytes__equal_those_that_ffcv_finds(theirs, peer, compared):
    """Our reader returns the same stored bytes as FFCV's reader, for every pointer."""
    with Reader(str(theirs)) as reader:
        for name, values in peer("stored", theirs).items():
            found = [reader.read(index, name) for index in range(NUM_SAMPLES)]
            compared(THEIRS, name, "stored bytes", assert_equal(found, values, name))


def test_records__are_equal_for_both_readers(theirs, peer, compared):
    """Both readers return the same sizes, modes and pointers of every field."""
    with Reader(str(theirs)) as reader:
        for name, column in peer("records", theirs).items():
            compared(THEIRS, name, "record", assert_equal(reader.records[name], column, name))


def test_custom_field__is_read_by_us(tmp_path, peer, compared):
    """Our reader reads a custom field of FFCV's file with our field class."""
    path = tmp_path / "custom.beton"
    peer("write", path, dataset="TaggedBytes", samples=40)
    with Reader(str(path), custom_fields={"tagged": TaggedBytesField}) as reader:
        found = [reader.value(index, "tagged") for index in range(40)]
    values = [value for _, value in samples.TaggedBytes(40)]
    assert [tag for tag, _ in found] == [tag for tag, _ in values]
    compared(
        THEIRS,
        "custom field",
        "reader",
        assert_equal(
            [content for _, content in found], [content for _, content in values], "tagged"
        ),
    )


def test_verify__finds_no_damage(theirs):
    """`verify` finds no damage in FFCV's file, and the reader reports that it has no checksums."""
    with Reader(str(theirs)) as reader:
        assert list(reader.verify()) == []
        assert not reader.has_checksums


def test_loader__gives_the_values_of_ffcvs_file(theirs, compared):
    """Our loader reads every field of FFCV's file with the default pipelines."""
    expected = dict(
        zip(
            samples.all_fields(fields),
            zip(*samples.AllFields(NUM_SAMPLES), strict=True),
            strict=True,
        )
    )
    with Loader(
        str(theirs), batch_size=32, order=OrderOption.RANDOM, seed=3, drop_last=False
    ) as loader:
        batches = list(loader)
    order = torch.cat([batch["index"] for batch in batches]).argsort().tolist()
    for name, values in expected.items():
        rows = [row for batch in batches for row in batch[name]]
        found = [rows[position] for position in order]
        if name in ("raw", "jpeg"):
            found = [image.permute(1, 2, 0) for image in found]
        if name == "jpeg":
            values = [simplejpeg.decode_jpeg(ffcvs_jpeg(image)) for image in values]
        compared(THEIRS, name, "loader", assert_equal(found, values, name))


@pytest.mark.parametrize("mode", ["raw", "jpg", "smart", "proportion"])
def test_image_modes__of_any_size(their_images, compared, mode):
    """Images of every write mode and size are read: raw pixels and FFCV's JPEG bytes."""
    path = their_images(mode, write_mode=mode)
    with Reader(str(path)) as reader:
        modes = reader.records["image"]["mode"]
        raw = [index for index in range(NUM_IMAGES) if modes[index] == 1]
        jpeg = [index for index in range(NUM_IMAGES) if modes[index] == 0]
        assert bool(raw) == (mode != "jpg")
        assert bool(jpeg) == (mode != "raw")
        dataset = samples.VariedImages(NUM_IMAGES)
        if raw:
            found = [reader.value(index, "image") for index in raw]
            compared(
                THEIRS,
                f"{mode} mode, many sizes",
                "reader",
                assert_equal(found, [dataset[index][1] for index in raw], "raw"),
            )
        if jpeg:
            found = [reader.read(index, "image") for index in jpeg]
            expected = [ffcvs_jpeg(dataset[index][1]) for index in jpeg]
            compared(
                THEIRS,
                f"{mode} mode, many sizes",
                "stored bytes",
                assert_equal(found, expected, "jpeg"),
            )


def test_resized_images__equal_our_area_resize(their_images, compared, tmp_path):
    """FFCV's resized images equal those of our writer with resample="area"."""
    path = their_images("resized", write_mode="raw", max_resolution=64)
    ours = tmp_path / "resized.beton"
    field_map = samples.image_fields(fields, write_mode="raw", max_resolution=64, resample="area")
    DatasetWriter(str(ours), field_map, num_workers=2, progress=False).from_indexed_dataset(
        samples.VariedImages(NUM_IMAGES)
    )
    with Reader(str(path)) as theirs, Reader(str(ours)) as mine:
        found = [theirs.value(index, "image") for index in range(NUM_IMAGES)]
        expected = [mine.value(index, "image") for index in range(NUM_IMAGES)]
    assert max(max(image.shape) for image in found) <= 64
    compared(
        THEIRS,
        "max_resolution=64",
        "reader (equal to our own)",
        assert_equal(found, expected, "resized"),
    )
