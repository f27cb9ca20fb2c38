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
    "grey": make.encode(PIXELS, "L"),
    "upright by EXIF": make.with_orientation(JPEG, 1),
    "with a profile and a comment": make.encode(PIXELS, icc_profile=bytes(3000), comment=b"hello"),
    "trailing bytes": JPEG + b"and more",
}
CHANGED = {
    "turned": (make.with_orientation(JPEG, 6), "EXIF orientation 6"),
    "CMYK": (make.encode(PIXELS, "CMYK"), "colour space CMYK"),
    "RGB": (make.encode(PIXELS, keep_rgb=True), "colour space RGB"),
    "arithmetic": (make.ARITHMETIC, "arithmetic coding"),
}


def stored(field, value, sample_index=0, seed=0):
    """Encode a value and read it back: the encoded value and the decoded image."""
    encoded = field.encode(value, sample_index, seed)
    record = np.array([field.record(encoded, 4096)], field.record_dtype)
    assert record["data_ptr"][0] == 4096
    assert field.payload_size(record)[0] in (SIZE_UNKNOWN, len(encoded.payload))
    field.validate(record, np.array([len(encoded.payload)]))
    return encoded, field.decode(record[0], memoryview(encoded.payload))


def test_record__is_the_13_bytes_of_ffcv():
    """Mode, width, height and pointer, packed: the layout of BETON.md."""
    dtype = RGBImageField().record_dtype
    assert (dtype.itemsize, dtype.alignment) == (13, 1)
    assert dtype.names == ("mode", "width", "height", "data_ptr")


@pytest.mark.parametrize(
    "value",
    [PIXELS, Image.fromarray(PIXELS), torch.from_numpy(PIXELS.transpose(2, 0, 1).copy())],
    ids=["array", "PIL", "tensor"],
)
def test_raw__round_trips_exactly(value):
    """Raw images come back pixel for pixel, as arrays of the caller's own."""
    encoded, image = stored(RGBImageField("raw"), value)
    assert (encoded.record, encoded.note) == ((1, 61, 43), "raw")
    np.testing.assert_array_equal(image, PIXELS)
    image[:] = 0
    np.testing.assert_array_equal(stored(RGBImageField("raw"), value)[1], PIXELS)


def test_jpg__encodes_pixels():
    """Pixels become the JPEG of the package's encoder at the asked quality."""
    encoded, image = stored(RGBImageField("jpg", jpeg_quality=70), PIXELS)
    assert (encoded.record, encoded.note) == ((0, 61, 43), "converted")
    assert encoded.payload == encode_jpeg(PIXELS, 70)
    assert np.abs(image.astype(float) - PIXELS).mean() < 20


@pytest.mark.parametrize("name", KEPT)
@pytest.mark.parametrize("check", ["decode", "header"])
def test_jpg__keeps_files_byte_for_byte(name, check, tmp_path):
    """A JPEG that needs no change is stored as it is, given by path or as bytes, and decodes to RGB."""
    path = tmp_path / "image.png"
    path.write_bytes(KEPT[name])
    for value in (path, str(path), KEPT[name], bytearray(KEPT[name]), memoryview(KEPT[name])):
        encoded, image = stored(RGBImageField("jpg", check=check), value)
        assert encoded.payload == KEPT[name]
        assert (encoded.record, encoded.note) == ((0, 61, 43), "kept")
        np.testing.assert_array_equal(image, load_rgb(KEPT[name]))


@pytest.mark.parametrize("name", CHANGED)
def test_jpg__encodes_files_that_have_to_change(name):
    """A JPEG of another kind is decoded, converted and encoded."""
    data, _ = CHANGED[name]
    encoded, _ = stored(RGBImageField("jpg", jpeg_quality=80), data)
    assert encoded.note == "reencoded"
    assert encoded.payload == encode_jpeg(load_rgb(data), 80)
    assert inspect_jpeg(encoded.payload).needed_change() is None


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("mode", ["raw", "jpg"])
def test_encode__stores_images_upright(orientation, mode):
    """The record has the size of the upright image, and so has what is decoded."""
    data = make.with_orientation(JPEG, orientation)
    encoded, image = stored(RGBImageField(mode), data)
    assert encoded.record[1:] == ((43, 61) if orientation >= 5 else (61, 43))
    assert image.shape == ((61, 43, 3) if orientation >= 5 else (43, 61, 3))
    if mode == "raw":
        np.testing.assert_array_equal(image, load_rgb(data))


def test_jpg__repairs_what_decodes_with_warnings():
    """Under check="decode" a damaged JPEG that libjpeg repairs is encoded again, and counted; under "header" it is trusted."""
    damaged = make.damaged(make.encode(photo_like(83, 117)))["garbage in the middle"]
    encoded, _ = stored(RGBImageField("jpg"), damaged)
    assert encoded.note == "repaired"
    assert encoded.payload == encode_jpeg(load_rgb(damaged), 90)
    trusted = RGBImageField("jpg", check="header").encode(damaged, 0)
    assert (trusted.payload, trusted.note) == (damaged, "kept")


@pytest.mark.parametrize("damage", ["cut in half", "cut before its scan", "only its first marker"])
def test_encode__refuses_what_does_not_decode(damage, tmp_path):
    """A JPEG that lacks its end is an ImageError with its path, in every write mode."""
    path = tmp_path / "broken.jpg"
    path.write_bytes(make.damaged(JPEG)[damage])
    for mode in ("raw", "jpg"):
        with pytest.raises(ImageError, match=r"broken\.jpg: "):
            RGBImageField(mode).encode(path, 0)


@pytest.mark.parametrize("name", KEPT)
def test_reencode__gives_the_bytes_of_pillows_decode(name):
    """Whichever decoder reads a file that is encoded again, the bytes are those of Pillow's pixels, also of a file that is damaged."""
    field = RGBImageField(write_mode="jpg", reencode="always", max_resolution=40)
    for data in (KEPT[name], KEPT[name][:-60] + b"\xff\xd9"):
        expected = field.encode(load_rgb(data), 0).payload
        assert field.encode(data, 0).payload == expected


def test_reencode_always__encodes_every_file():
    """No file is kept under "always"."""
    encoded, _ = stored(RGBImageField("jpg", reencode="always"), JPEG)
    assert encoded.note == "reencoded"
    assert encoded.payload == encode_jpeg(load_rgb(JPEG), 90)


@pytest.mark.parametrize("name", CHANGED)
def test_reencode_never__refuses_files_that_have_to_change(name, tmp_path):
    """The message names the file and what is in the way."""
    path = tmp_path / "photo.jpg"
    data, reason = CHANGED[name]
    path.write_bytes(data)
    with pytest.raises(ImageError, match=rf"photo\.jpg: cannot be stored as it is: {reason}"):
        RGBImageField("jpg", reencode="never").encode(path, 7)


def test_reencode_never__refuses_everything_that_is_not_kept(tmp_path):
    """Images to shrink, damaged ones, other formats and arrays are refused; what can be kept, and raw pixels, are not."""
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
    "value", [JPEG, PIXELS, make.with_orientation(JPEG, 6)], ids=["file", "array", "turned file"]
)
def test_max_resolution__shrinks(mode, value):
    """The longest side of the upright image comes to the limit; the pixels are those of the package's resize."""
    encoded, image = stored(RGBImageField(mode, max_resolution=30), value)
    expected = resize(load_rgb(value), 30)
    assert max(expected.shape) == 30
    assert encoded.record[1:] == expected.shape[1::-1]
    if mode == "raw":
        np.testing.assert_array_equal(image, expected)
    else:
        assert encoded.payload == encode_jpeg(expected, 90)


def test_max_resolution__keeps_files_within_it():
    """A file whose longest side is just the limit is kept."""
    assert RGBImageField("jpg", max_resolution=61).encode(JPEG, 0).note == "kept"
    assert RGBImageField("jpg", max_resolution=60).encode(JPEG, 0).note == "reencoded"


def test_smart__compares_raw_bytes_with_the_threshold():
    """Images of more than `smart_threshold` bytes of pixels, after shrinking, are JPEG; the others are raw."""
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
    """FFCV stores everything raw then; that is said."""
    with pytest.warns(UserWarning, match="smart_threshold"):
        field = RGBImageField("smart")
    assert field.encode(PIXELS, 0).note == "raw"


def test_proportion__is_a_fixed_choice_of_seed_and_index():
    """The share comes out; the choice is the same every time, and another for another seed; 0 and 1 are never and always."""
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
    """Height and width survive, down to one pixel and up to the limits of JPEG."""
    _, image = stored(RGBImageField(mode), np.full((*shape, 3), 90, np.uint8))
    assert image.shape == (*shape, 3)
    assert np.abs(image.astype(int) - 90).max() <= 1


def test_encode__refuses_sides_that_the_file_cannot_hold():
    """Raw sides end at 65,535, JPEG's at 65,500, unless max_resolution brings them down."""
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
    """A header that promises 30,000 × 30,000 pixels is refused without decoding, also when headers are trusted."""
    bomb = make.with_frame(JPEG, height=30_000, width=30_000)
    for check in ("header", "decode"):
        with pytest.raises(ImageError, match="bomb"):
            RGBImageField("jpg", check=check).encode(bomb, 0)


def test_decode__refuses_what_its_record_does_not_say():
    """Payloads of another size than the record's, or damaged ones, are ImageErrors."""
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
    """3 · width · height in 64 bits for raw images, unknown for JPEGs."""
    field = RGBImageField()
    records = np.array([(1, 65_535, 65_535, 0), (0, 61, 43, 0), (1, 2, 3, 0)], field.record_dtype)
    assert field.payload_size(records).tolist() == [3 * 65_535**2, SIZE_UNKNOWN, 18]


@pytest.mark.parametrize(
    ("record", "size"), [((7, 5, 5, 0), 9), ((1, 0, 5, 0), 9), ((0, 5, 0, 0), 9), ((0, 5, 5, 0), 0)]
)
def test_validate__names_the_first_broken_record(record, size):
    """Unknown modes, and images without pixels or bytes, are refused by sample."""
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
    """Every argument is checked when the field is built, and named."""
    with pytest.raises(FieldError, match=list(arguments)[-1]):
        RGBImageField(**arguments)


def test_describe__holds_all_arguments():
    """What is described builds the same field again, and pickles."""
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


def test_field__door_of_ffcv():
    """`ffcv_ssl.fields.rgb_image` leads to the same class, and FFCV's positional arguments mean the same."""
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
    """All 315 photos are stored byte for byte; every twentieth decodes to what Pillow decodes."""
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
