"""FFCV 1.0.2 reads files of our writer."""

import io
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from PIL import Image

from ffcv_ssl import fields
from ffcv_ssl.reader import Reader
from ffcv_ssl.writer import DatasetWriter
from tests.interop import samples
from tests.interop.custom import TaggedBytesField
from tests.interop.equality import assert_equal

pytestmark = [pytest.mark.interop, pytest.mark.timeout(900)]

OURS = "ours, read by FFCV"
NUM_SAMPLES = 300
NUM_PHOTOS = 120
SMALL_PAGE = 1 << 21  # raw images fill six of them
EXTENSION_MAGIC = b"FFCVSSL1"
TRAILER_SIZE = 32


def write(path: Path, field_map: dict, dataset, **options) -> Path:
    """Write a file with our writer and two worker processes."""
    DatasetWriter(
        str(path), field_map, num_workers=2, progress=False, **options
    ).from_indexed_dataset(dataset, chunksize=16)
    return path


@pytest.fixture(scope="module")
def ours(tmp_path_factory) -> Path:
    """Every field type in one file, with checksums and metadata in the extension block."""
    path = tmp_path_factory.mktemp("ours") / "all.beton"
    return write(
        path,
        samples.all_fields(fields),
        samples.AllFields(NUM_SAMPLES),
        page_size=SMALL_PAGE,
        metadata={"source": "drawn"},
    )


@pytest.fixture(scope="module")
def jpeg_files() -> list[bytes]:
    """JPEG files of all kinds: subsamplings, progressive, grayscale, restart markers, odd sizes."""
    variants = [
        {"subsampling": 0},
        {"subsampling": 1},
        {"subsampling": 2},
        {"subsampling": 2, "progressive": True},
        {"subsampling": 0, "progressive": True, "optimize": True},
        {"subsampling": 2, "restart_marker_rows": 1},
        {"subsampling": 2, "restart_marker_blocks": 3},
        {"grayscale": True},
    ]
    encoded = []
    for index in range(6 * len(variants)):
        options = dict(variants[index % len(variants)])
        image = Image.fromarray(
            samples.drawn_image(50 + 11 * index % 83, 64 + 17 * index % 71, seed=index)
        )
        buffer = io.BytesIO()
        (image.convert("L") if options.pop("grayscale", False) else image).save(
            buffer, "JPEG", quality=75 + index % 20, **options
        )
        encoded.append(buffer.getvalue())
    return encoded


def test_extension_block__is_present(ours):
    """The file holds our block before the allocation table; our reader verifies its checksums."""
    content = ours.read_bytes()
    table = int(np.frombuffer(content, dtype="<u8", count=1, offset=16)[0])
    assert content[table - TRAILER_SIZE : table].startswith(EXTENSION_MAGIC)
    with Reader(str(ours)) as reader:
        assert reader.metadata
        assert list(reader.verify()) == []


@pytest.mark.parametrize("order", ["sequential", "quasi_random"])
@pytest.mark.parametrize("cache", ["os", "process"])
def test_every_field__through_ffcvs_loader(ours, peer, compared, cache, order):
    """FFCV's loader returns the written values bit for bit, JPEGs as its fast DCT decodes them."""
    found = peer("load", ours, cache=cache, order=order)
    dataset = samples.AllFields(NUM_SAMPLES)
    expected = dict(zip(samples.all_fields(fields), zip(*dataset, strict=True), strict=True))
    with Reader(str(ours)) as reader:
        expected["jpeg"] = [
            simplejpeg.decode_jpeg(reader.read(index, "jpeg"), fastdct=True)
            for index in range(NUM_SAMPLES)
        ]
    assert list(found) == list(expected)
    for name, values in expected.items():
        compared(
            OURS,
            name,
            "loader" + " (fast DCT)" * (name == "jpeg"),
            assert_equal(found[name], values, name),
        )


@pytest.mark.parametrize("cache", ["os", "process"])
def test_stored_bytes__through_ffcvs_caches(ours, peer, compared, cache):
    """Both of FFCV's caches return the same stored bytes as our reader, for every pointer."""
    found = peer("stored", ours, cache=cache)
    assert set(found) == {"raw", "jpeg", "bytes", "ndarray", "ndarray_i2", "json", "tensor"}
    with Reader(str(ours)) as reader:
        for name, values in found.items():
            expected = [reader.read(index, name) for index in range(NUM_SAMPLES)]
            compared(OURS, name, "stored bytes", assert_equal(values, expected, name))


def test_records__are_equal_for_both_readers(ours, peer, compared):
    """Both readers return the same sizes, modes and pointers of every field."""
    with Reader(str(ours)) as reader:
        for name, column in peer("records", ours).items():
            compared(OURS, name, "record", assert_equal(reader.records[name], column, name))


@pytest.mark.parametrize("cache", ["os", "process"])
def test_unchanged_jpegs__are_stored_byte_for_byte(tmp_path, peer, compared, jpeg_files, cache):
    """A JPEG that needs no change is stored byte for byte, and FFCV decodes it."""
    path = write(
        tmp_path / "kept.beton",
        samples.image_fields(fields, write_mode="jpg"),
        list(enumerate(jpeg_files)),
    )
    compared(
        OURS,
        "kept JPEG files",
        "stored bytes",
        assert_equal(peer("stored", path, cache=cache)["image"], jpeg_files, "bytes"),
    )
    expected = [simplejpeg.decode_jpeg(data, colorspace="RGB", fastdct=True) for data in jpeg_files]
    found = peer("load", path, cache=cache)["image"]
    compared(OURS, "kept JPEG files", "loader (fast DCT)", assert_equal(found, expected, "pixels"))


@pytest.mark.shared_data
def test_photos__kept_and_decoded(tmp_path, peer, compared, shared_data):
    """Photos with metadata of cameras and editors are stored byte for byte and decoded by FFCV."""
    photos = [path.read_bytes() for path in sorted(shared_data.glob("photos/*/*.jpg"))]
    photos = [data for data in photos if max(Image.open(io.BytesIO(data)).size) <= 500][:NUM_PHOTOS]
    path = write(
        tmp_path / "photos.beton",
        samples.image_fields(fields, write_mode="jpg"),
        list(enumerate(photos)),
    )
    with Reader(str(path)) as reader:
        kept = [reader.read(index, "image") for index in range(len(reader))]
    compared(
        OURS,
        "real photos",
        "stored bytes",
        assert_equal(peer("stored", path)["image"], kept, "bytes"),
    )
    assert sum(ours == photo for ours, photo in zip(kept, photos, strict=True)) > 0.9 * len(photos)
    expected = [simplejpeg.decode_jpeg(data, colorspace="RGB", fastdct=True) for data in kept]
    compared(
        OURS,
        "real photos",
        "loader (fast DCT)",
        assert_equal(peer("load", path)["image"], expected, "pixels"),
    )


def test_raw_and_jpeg_in_one_column__of_any_size(tmp_path, peer, compared):
    """In `smart` mode FFCV reads a column of raw and JPEG images of different sizes."""
    dataset = samples.VariedImages(60)
    options = {"write_mode": "smart", "smart_threshold": samples.SMART_THRESHOLD}
    path = write(tmp_path / "smart.beton", samples.image_fields(fields, **options), dataset)
    with Reader(str(path)) as reader:
        modes = reader.records["image"]["mode"]
        expected = [
            simplejpeg.decode_jpeg(reader.read(index, "image"), fastdct=True)
            if modes[index] == 0
            else image
            for index, image in dataset
        ]
    assert set(modes.tolist()) == {0, 1}
    compared(
        OURS,
        "smart mode, many sizes",
        "loader (fast DCT)",
        assert_equal(peer("load", path)["image"], expected, "image"),
    )


def test_raised_page_size__is_read(tmp_path, peer, compared):
    """A value larger than the page raises the page size; FFCV reads the file with both caches."""
    rng = np.random.default_rng(0)
    values = [
        (index, rng.integers(0, 256, size=size, dtype=np.uint8))
        for index, size in enumerate([1000, 3_000_000, 5, 2_500_000, 77])
    ]
    path = write(
        tmp_path / "raised.beton",
        {"index": fields.IntField(), "bytes": fields.BytesField()},
        values,
        page_size=SMALL_PAGE,
    )
    with Reader(str(path)) as reader:
        assert reader.page_size == 2 * SMALL_PAGE
    for cache in ("os", "process"):
        found = peer("stored", path, cache=cache)["bytes"]
        compared(
            OURS,
            "values above the page size",
            "stored bytes",
            assert_equal(found, [value for _, value in values], "bytes"),
        )


def test_empty_values__do_not_affect_their_neighbors(tmp_path, peer, compared):
    """An empty value has its own pointer, so FFCV does not confuse it with the next value."""
    values = [(index, np.arange(index % 3 * 10, dtype=np.uint8)) for index in range(30)]
    path = write(
        tmp_path / "empty.beton", {"index": fields.IntField(), "bytes": fields.BytesField()}, values
    )
    for cache in ("os", "process"):
        found = peer("stored", path, cache=cache)["bytes"]
        compared(
            OURS,
            "empty values among others",
            "stored bytes",
            assert_equal(found, [value for _, value in values], "bytes"),
        )


def test_custom_field__is_read_by_ffcv(tmp_path, peer, compared):
    """FFCV reads record and bytes of a custom field with its own field class."""
    dataset = samples.TaggedBytes(40)
    path = write(
        tmp_path / "custom.beton",
        {"image": fields.RGBImageField(), "tagged": TaggedBytesField()},
        dataset,
    )
    assert peer("records", path)["tagged"]["tag"].tolist() == [value[0] for _, value in dataset]
    found = peer("stored", path)["tagged"]
    compared(
        OURS,
        "custom field",
        "stored bytes",
        assert_equal(found, [value[1] for _, value in dataset], "tagged"),
    )


@pytest.mark.parametrize(
    "names",
    [
        ("image",),
        ("image", "index"),
        ("image", "bytes"),
        ("image", "bytes", "index"),
        ("image", "image"),
        ("bytes", "array", "image"),
    ],
    ids="-".join,
)
def test_record_layout__of_other_field_orders(tmp_path, peer, compared, names):
    """Records of any sequence of fields have the padding and alignment that FFCV expects."""
    builders = {
        "image": (fields.RGBImageField, lambda index: samples.drawn_image(9, 14, seed=index)),
        "index": (fields.IntField, lambda index: index),
        "bytes": (fields.BytesField, lambda index: np.arange(1 + index, dtype=np.uint8)),
        "array": (
            lambda: fields.NDArrayField(np.dtype("<i4"), (2, 2)),
            lambda index: np.full((2, 2), index, dtype=np.int32),
        ),
    }
    field_map = {f"{name}{position}": builders[name][0]() for position, name in enumerate(names)}
    dataset = [tuple(builders[name][1](index) for name in names) for index in range(20)]
    found = peer("stored", write(tmp_path / "layout.beton", field_map, dataset))
    for position, name in enumerate(names):
        if name != "index":
            expected = [np.ravel(sample[position]).view(np.uint8) for sample in dataset]
            compared(
                OURS,
                "other orders of fields",
                "stored bytes",
                assert_equal(found[f"{name}{position}"], expected, name),
            )
