"""The field for RGB images."""

import pickle
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from ffcv_ssl.codecs.encode import encode_jpeg, resize
from ffcv_ssl.codecs.image import load_rgb
from ffcv_ssl.codecs.jpeg import inspect_jpeg
from ffcv_ssl.errors import FieldError, ImageError
from ffcv_ssl.fields import RGBImageField
from ffcv_ssl.fields.base import SIZE_UNKNOWN
from tests.reference import jpeg as make
from tests.reference.images import coordinates, photo_like

PIXELS = photo_like(43, 61)
JPEG = make.encode(PIXELS)
KEPT = {
    "baseline": JPEG,
    "4:4:4": make.subsampled(PIXELS, "4:4:4"),
    "4:1:1": make.subsampled(PIXELS, "4:1:1"),
    "progressive": make.encode(PIXELS, progressive=True),
    "restarts": make.encode(PIXELS, restart_marker_rows=1),
    "extended": make.with_frame(JPEG, marker=0xC1),
    "gray": make.encode(PIXELS, "L"),
    "upright by EXIF": make.with_orientation(JPEG, 1),
    "with a profile and a comment": make.encode(PIXELS, icc_profile=bytes(3000), comment=b"hello"),
    "trailing bytes": JPEG + b"and more",
}
CHANGED = {
    "rotated": (make.with_orientation(JPEG, 6), "EXIF orientation 6"),
    "CMYK": (make.encode(PIXELS, "CMYK"), "color space CMYK"),
    "RGB": (make.encode(PIXELS, keep_rgb=True), "color space RGB"),
    "arithmetic": (make.ARITHMETIC, "arithmetic coding"),
}


def stored(field, value, sample_index=0, seed=0):
    """Encode and decode a value; return the encoded value and the image."""
    encoded = field.encode(value, sample_index, seed)
    record = np.array([field.record(encoded, 4096)], field.record_dtype)
    assert record["data_ptr"][0] == 4096
    assert field.payload_size(record)[0] in (SIZE_UNKNOWN, len(encoded.payload))
    field.validate(record, np.array([len(encoded.payload)]))
    return encoded, field.decode(record[0], memoryview(encoded.payload))


def test_record__is_the_13_bytes_of_ffcv():
    """The record is packed: mode, width, height and pointer, as in BETON.md."""
    dtype = RGBImageField().record_dtype
    assert (dtype.itemsize, dtype.alignment) == (13, 1)
    assert dtype.names == ("mode", "width", "height", "data_ptr")


@pytest.mark.parametrize(
    "value",
    [PIXELS, Image.fromarray(PIXELS), torch.from_numpy(PIXELS.transpose(2, 0, 1).copy())],
    ids=["array", "PIL", "tensor"],
)
def test_raw__round_trips_exactly(value):
    """Raw images survive the round trip exactly and own their memory."""
    encoded, image = stored(RGBImageField("raw"), value)
    assert (encoded.record, encoded.note) == ((1, 61, 43), "raw")
    np.testing.assert_array_equal(image, PIXELS)
    image[:] = 0
    np.testing.assert_array_equal(stored(RGBImageField("raw"), value)[1], PIXELS)


def test_jpg__encodes_pixels():
    """Pixels are encoded by `encode_jpeg` at the requested quality."""
    encoded, image = stored(RGBImageField("jpg", jpeg_quality=70), PIXELS)
    assert (encoded.record, encoded.note) == ((0, 61, 43), "converted")
    assert encoded.payload == encode_jpeg(PIXELS, 70)
    assert np.abs(image.astype(float) - PIXELS).mean() < 20


@pytest.mark.parametrize("name", KEPT)
@pytest.mark.parametrize("check", ["decode", "header"])
def test_jpg__keeps_files_byte_for_byte(name, check, tmp_path):
    """A JPEG that needs no change, given by path or as bytes, is stored unchanged."""
    path = tmp_path / "image.png"
    path.write_bytes(KEPT[name])
    for value in (path, str(path), KEPT[name], bytearray(KEPT[name]), memoryview(KEPT[name])):
        encoded, image = stored(RGBImageField("jpg", check=check), value)
        assert encoded.payload == KEPT[name]
        assert (encoded.record, encoded.note) == ((0, 61, 43), "kept")
        np.testing.assert_array_equal(image, load_rgb(KEPT[name]))


@pytest.mark.parametrize("name", CHANGED)
def test_jpg__encodes_files_that_have_to_change(name):
    """A JPEG of another kind is decoded, converted and encoded again."""
    data, _ = CHANGED[name]
    encoded, _ = stored(RGBImageField("jpg", jpeg_quality=80), data)
    assert encoded.note == "reencoded"
    assert encoded.payload == encode_jpeg(load_rgb(data), 80)
    assert inspect_jpeg(encoded.payload).needed_change() is None


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("mode", ["raw", "jpg"])
def test_encode__stores_images_upright(orientation, mode):
    """The record and the decoded image have the size of the upright image."""
    data = make.with_orientation(JPEG, orientation)
    encoded, image = stored(RGBImageField(mode), data)
    assert encoded.record[1:] == ((43, 61) if orientation >= 5 else (61, 43))
    assert image.shape == ((61, 43, 3) if orientation >= 5 else (43, 61, 3))
    if mode == "raw":
        np.testing.assert_array_equal(image, load_rgb(data))


def test_jpg__repairs_files_that_decode_with_warnings():
    """A JPEG that libjpeg repairs is encoded again, unless only headers are checked."""
    damaged = make.damaged(make.encode(photo_like(83, 117)))["garbage in the middle"]
    encoded, _ = stored(RGBImageField("jpg"), damaged)
    assert encoded.note == "repaired"
    assert encoded.payload == encode_jpeg(load_rgb(damaged), 90)
    trusted = RGBImageField("jpg", check="header").encode(damaged, 0)
    assert (trusted.payload, trusted.note) == (damaged, "kept")


@pytest.mark.parametrize("damage", ["cut in half", "cut before its scan", "only its first marker"])
def test_encode__refuses_files_that_do_not_decode(damage, tmp_path):
    """An incomplete JPEG is an ImageError with its path in every write mode."""
    path = tmp_path / "broken.jpg"
    path.write_bytes(make.damaged(JPEG)[damage])
    for mode in ("raw", "jpg"):
        with pytest.raises(ImageError, match=r"broken\.jpg: "):
            RGBImageField(mode).encode(path, 0)


@pytest.mark.parametrize("name", KEPT)
def test_reencode__encodes_pillows_pixels(name):
    """A file that is encoded again has Pillow's pixels, even if it is damaged."""
    field = RGBImageField(write_mode="jpg", reencode="always", max_resolution=40)
    for data in (KEPT[name], KEPT[name][:-60] + b"\xff\xd9"):
        expected = field.encode(load_rgb(data), 0).payload
        assert field.encode(data, 0).payload == expected


def test_reencode_always__encodes_every_file():
    """Under "always" no file is kept."""
    encoded, _ = stored(RGBImageField("jpg", reencode="always"), JPEG)
    assert encoded.note == "reencoded"
    assert encoded.payload == encode_jpeg(load_rgb(JPEG), 90)


@pytest.mark.parametrize("name", CHANGED)
def test_reencode_never__refuses_files_that_have_to_change(name, tmp_path):
    """The message names the file and the reason."""
    path = tmp_path / "photo.jpg"
    data, reason = CHANGED[name]
    path.write_bytes(data)
    with pytest.raises(ImageError, match=rf"photo\.jpg: cannot be stored as it is: {reason}"):
        RGBImageField("jpg", reencode="never").encode(path, 7)


def test_reencode_never__refuses_everything_that_is_not_kept(tmp_path):
    """Large or damaged images, other formats and arrays are errors, unless stored raw."""
    field = RGBImageField("jpg", reencode="never", max_resolution=60)
    for value, reason in [
        (JPEG, "exceed max_resolution=60"),
        (make.damaged(make.encode(photo_like(50, 60)))["zeros in place of the scan"], "JPEG"),
        (coordinates(5, 6), "not a JPEG file"),
        (Image.fromarray(coordinates(5, 6)), "not a JPEG file"),
    ]:
        with pytest.raises(ImageError, match=reason):
            field.encode(value, 0)
    small = make.encode(coordinates(30, 60))
    assert field.encode(small, 0).payload == small
    assert (
        RGBImageField("smart", smart_threshold=10**6, reencode="never").encode(PIXELS, 0).note
        == "raw"
    )


@pytest.mark.parametrize("mode", ["raw", "jpg"])
@pytest.mark.parametrize(
    "value", [JPEG, PIXELS, make.with_orientation(JPEG, 6)], ids=["file", "array", "rotated file"]
)
def test_max_resolution__shrinks(mode, value):
    """The longest side of the upright image becomes the limit, with the pixels of `resize`."""
    encoded, image = stored(RGBImageField(mode, max_resolution=30), value)
    expected = resize(load_rgb(value), 30)
    assert max(expected.shape) == 30
    assert encoded.record[1:] == expected.shape[1::-1]
    if mode == "raw":
        np.testing.assert_array_equal(image, expected)
    else:
        assert encoded.payload == encode_jpeg(expected, 90)


def test_max_resolution__keeps_files_within_it():
    """A file whose longest side equals the limit is kept."""
    assert RGBImageField("jpg", max_resolution=61).encode(JPEG, 0).note == "kept"
    assert RGBImageField("jpg", max_resolution=60).encode(JPEG, 0).note == "reencoded"


def test_smart__compares_raw_bytes_with_the_threshold():
    """Images of more than `smart_threshold` bytes after shrinking are JPEG, the others raw."""
    size = PIXELS.size
    assert RGBImageField("smart", smart_threshold=size - 1).encode(JPEG, 0).note == "kept"
    assert RGBImageField("smart", smart_threshold=size).encode(JPEG, 0).note == "raw"
    assert RGBImageField("smart", smart_threshold=size - 1).encode(PIXELS, 0).record[0] == 0
    assert RGBImageField("smart", smart_threshold=size).encode(PIXELS, 0).record[0] == 1
    assert (
        RGBImageField("smart", smart_threshold=size // 2, max_resolution=30)
        .encode(PIXELS, 0)
        .record[0]
        == 1
    )


def test_smart__without_threshold_warns_and_stores_raw():
    """Without a threshold all images are stored raw, as in FFCV, and a warning is issued."""
    with pytest.warns(UserWarning, match="smart_threshold"):
        field = RGBImageField("smart")
    assert field.encode(PIXELS, 0).note == "raw"


def test_proportion__is_a_fixed_choice_of_seed_and_index():
    """The choice depends only on seed and index, with the requested probability."""
    field, pixels = (
        RGBImageField("proportion", compress_probability=0.3),
        np.zeros((1, 1, 3), np.uint8),
    )

    def chosen(seed, field=field):
        return [field.encode(pixels, index, seed).record[0] == 0 for index in range(1000)]

    assert chosen(0) == chosen(0)
    assert 0.25 < np.mean(chosen(0)) < 0.35
    assert 0.33 < np.mean(np.not_equal(chosen(0), chosen(1))) < 0.51  # 2 · 0.3 · 0.7
    assert not any(chosen(0, RGBImageField("proportion", compress_probability=0)))
    assert all(chosen(0, RGBImageField("proportion", compress_probability=1)))


@pytest.mark.parametrize(
    "shape", [(1, 1), (1, 9), (9, 1), (2, 40), (3, 5), (300, 3000), (1, 65_500)]
)
@pytest.mark.parametrize("mode", ["raw", "jpg"])
def test_encode__keeps_any_shape(shape, mode):
    """Height and width are kept, from one pixel to the limits of JPEG."""
    _, image = stored(RGBImageField(mode), np.full((*shape, 3), 90, np.uint8))
    assert image.shape == (*shape, 3)
    assert np.abs(image.astype(int) - 90).max() <= 1


def test_encode__refuses_sides_that_the_file_cannot_hold():
    """Raw sides are at most 65,535 and JPEG's 65,500, unless max_resolution reduces them."""
    assert stored(RGBImageField("raw"), np.zeros((65_535, 1, 3), np.uint8))[1].shape == (
        65_535,
        1,
        3,
    )
    for mode, side in (("raw", 65_536), ("raw", 70_000), ("jpg", 65_501), ("jpg", 65_535)):
        image = np.zeros((1, side, 3), np.uint8)
        with pytest.raises(ImageError, match=f"{side} x 1 pixels.*max_resolution"):
            RGBImageField(mode).encode(image, 0)
        assert stored(RGBImageField(mode, max_resolution=1000), image)[1].shape[1] in (999, 1000)


def test_encode__refuses_headers_of_too_many_pixels():
    """A header of 30,000 × 30,000 pixels is an error without decoding, under both checks."""
    bomb = make.with_frame(JPEG, height=30_000, width=30_000)
    for check in ("header", "decode"):
        with pytest.raises(ImageError, match="bomb"):
            RGBImageField("jpg", check=check).encode(bomb, 0)


def test_decode__refuses_payloads_that_contradict_the_record():
    """Damaged payloads, and those of another size than the record, are ImageErrors."""
    field = RGBImageField()

    def record(mode, width, height):
        return np.array([(mode, width, height, 0)], field.record_dtype)[0]

    for mode, width, height, payload in [
        (1, 61, 43, PIXELS.tobytes()[:-1]),
        (1, 60, 43, PIXELS.tobytes()),
        (0, 43, 61, JPEG),
        (0, 61, 44, JPEG),
        (0, 61, 43, JPEG[:-20]),
        (0, 61, 43, b""),
    ]:
        with pytest.raises(ImageError):
            field.decode(record(mode, width, height), payload)


def test_payload_size__is_known_for_raw_images():
    """The size is 3 · width · height in 64 bits for raw images, and unknown for JPEGs."""
    field = RGBImageField()
    records = np.array([(1, 65_535, 65_535, 0), (0, 61, 43, 0), (1, 2, 3, 0)], field.record_dtype)
    assert field.payload_size(records).tolist() == [3 * 65_535**2, SIZE_UNKNOWN, 18]


@pytest.mark.parametrize(
    ("record", "size"), [((7, 5, 5, 0), 9), ((1, 0, 5, 0), 9), ((0, 5, 0, 0), 9), ((0, 5, 5, 0), 0)]
)
def test_validate__names_the_first_broken_record(record, size):
    """Unknown modes and images without pixels or bytes are errors that name the sample."""
    records = np.array([(0, 5, 5, 0), record], RGBImageField().record_dtype)
    with pytest.raises(FieldError, match="sample 1"):
        RGBImageField().validate(records, np.array([9, size]))


@pytest.mark.parametrize(
    "arguments",
    [
        {"write_mode": "jpeg"},
        {"max_resolution": 0},
        {"max_resolution": 99.5},
        {"write_mode": "smart", "smart_threshold": -1},
        {"jpeg_quality": 0},
        {"jpeg_quality": 101},
        {"compress_probability": 1.5},
        {"compress_probability": float("nan")},
        {"reencode": True},
        {"check": "no"},
        {"resample": "lanczos"},
    ],
    ids=str,
)
def test_field__refuses_arguments_out_of_range(arguments):
    """The constructor checks every argument; the message names it."""
    with pytest.raises(FieldError, match=list(arguments)[-1]):
        RGBImageField(**arguments)


def test_describe__holds_all_arguments():
    """The description creates an equal field, and the field can be pickled."""
    field = RGBImageField(
        "smart",
        max_resolution=np.int64(500),
        smart_threshold=1000,
        reencode="never",
        check="header",
        resample="area",
    )
    description = field.describe()
    assert description["type"] == "RGBImageField"
    arguments = {name: value for name, value in description.items() if name != "type"}
    assert RGBImageField(**arguments).describe() == description
    assert pickle.loads(pickle.dumps(field)).describe() == description
    assert {type(value) for value in description.values()} <= {str, int, float, type(None)}


def test_field__has_ffcvs_import_path():
    """FFCV's import path and positional arguments are supported."""
    from ffcv_ssl.fields import rgb_image

    assert rgb_image.RGBImageField is RGBImageField
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        field = RGBImageField("smart", 500, None, 80, 0.25)
    assert (
        field.max_resolution,
        field.smart_threshold,
        field.jpeg_quality,
        field.compress_probability,
    ) == (500, None, 80, 0.25)


@pytest.mark.shared_data
def test_field__keeps_all_real_photos(shared_data):
    """All 315 photos are stored byte for byte; every twentieth has Pillow's pixels."""
    field = RGBImageField("jpg")
    paths = sorted((shared_data / "photos").glob("*/*.jpg"))
    assert len(paths) == 315
    for index, path in enumerate(paths):
        encoded = field.encode(path, index)
        assert encoded.note == "kept"
        assert encoded.payload == path.read_bytes()
        if index % 20 == 0:
            np.testing.assert_array_equal(
                stored(field, path)[1], np.asarray(Image.open(path).convert("RGB"))
            )
