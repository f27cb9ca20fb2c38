"""JPEG encoding and resizing."""

import numpy as np
import pytest
from PIL import Image

from ffcv_ssl.codecs.decode import decode_jpeg
from ffcv_ssl.codecs.encode import encode_jpeg, resize, resized_shape
from ffcv_ssl.codecs.jpeg import inspect_jpeg
from ffcv_ssl.errors import ImageError
from tests.reference.images import coordinates, photo_like


def test_encode__writes_files_that_can_be_kept():
    """The file is baseline, 4:2:0, with one restart marker per row of MCUs, and may be kept."""
    info = inspect_jpeg(encode_jpeg(photo_like(45, 100), 90))
    assert (info.height, info.width, info.coding, info.subsampling) == (
        45,
        100,
        "baseline",
        "4:2:0",
    )
    assert info.restart_interval == 7  # MCUs of 16 pixels in a row of 100
    assert info.needed_change() is None


def test_encode__quality_is_a_trade_of_size_and_error():
    """Higher quality takes more bytes and has a smaller error."""
    pixels = photo_like(45, 100)
    files = [encode_jpeg(pixels, quality) for quality in (20, 60, 95)]
    errors = [np.abs(decode_jpeg(data).astype(float) - pixels).mean() for data in files]
    assert len(files[0]) < len(files[1]) < len(files[2])
    assert errors[0] > errors[1] > errors[2]


@pytest.mark.parametrize(
    "shape", [(1, 1), (1, 40), (40, 1), (3, 3), (2, 40), (300, 3000), (8, 16), (17, 15)]
)
def test_encode__keeps_any_size(shape):
    """The decoded image has the size of the original, down to one pixel, and its colors."""
    pixels = np.full((*shape, 3), (200, 100, 50), np.uint8)
    decoded = decode_jpeg(encode_jpeg(pixels, 95))
    assert decoded.shape == pixels.shape
    assert np.abs(decoded.astype(int) - pixels).max() <= 4


def test_encode__refuses_sides_that_jpeg_cannot_hold():
    """A side of 65,500 pixels is accepted; one more is an error with advice."""
    assert decode_jpeg(encode_jpeg(np.zeros((1, 65_500, 3), np.uint8), 50)).shape == (1, 65_500, 3)
    with pytest.raises(ImageError, match=r"65,500; give max_resolution, or store it raw"):
        encode_jpeg(np.zeros((65_501, 1, 3), np.uint8), 50)


def test_encode__takes_arrays_of_any_layout():
    """The strides of the array do not matter."""
    pixels = photo_like(20, 30)
    padded = np.zeros((40, 60, 4), np.uint8)
    padded[::2, ::2, :3] = pixels
    expected = encode_jpeg(pixels, 90)
    assert encode_jpeg(padded[::2, ::2, :3], 90) == expected
    assert encode_jpeg(np.asfortranarray(pixels), 90) == expected


@pytest.mark.parametrize(
    ("shape", "limit", "expected"),
    [
        ((375, 500), 400, (300, 400)),
        ((500, 333), 100, (100, 66)),
        ((400, 400), 400, (400, 400)),
        ((3, 1000), 100, (1, 100)),
        ((7, 5), None, (7, 5)),
    ],
)
def test_resized_shape__truncates(shape, limit, expected):
    """The longest side becomes the limit, and the other one is rounded down, but not to 0.

    Smaller images keep their size.
    """
    assert resized_shape(*shape, limit) == expected


def test_resized_shape__equals_ffcvs():
    """FFCV scales both sides by one float64 ratio and truncates; tested up to 3,000 pixels."""
    for limit in (32, 224, 500):
        sides = np.arange(1, 3001)
        for longest in range(limit + 1, 3001, 97):
            expected = (limit / np.int64(longest) * sides[:longest]).astype(int)
            shapes = [resized_shape(longest, int(side), limit) for side in sides[:longest:53]]
            assert [width for _, width in shapes] == np.maximum(expected[::53], 1).tolist()
            assert all(limit - 1 <= height <= limit for height, _ in shapes)


def test_resize__is_pillows_antialiased_bilinear():
    """The pixels equal Pillow's."""
    pixels = photo_like(90, 131)
    np.testing.assert_array_equal(
        resize(pixels, 50),
        np.asarray(Image.fromarray(pixels).resize((50, 34), Image.Resampling.BILINEAR)),
    )


def test_resize__area_is_opencvs():
    """For an integer ratio, `resample="area"` averages blocks of pixels."""
    pixels = coordinates(60, 90)
    blocks = pixels.reshape(20, 3, 30, 3, 3).mean(axis=(1, 3))
    assert np.abs(resize(pixels, 30, "area") - blocks).max() <= 0.5


def test_resize__leaves_small_images():
    """An image within the limit is returned unchanged."""
    pixels = photo_like(20, 30)
    assert resize(pixels, 30) is pixels
    assert resize(pixels, None) is pixels


def test_resize__area_needs_opencv(monkeypatch):
    """Without OpenCV only "area" is an error, and it names the package to install."""
    monkeypatch.setitem(__import__("sys").modules, "cv2", None)
    with pytest.raises(ImageError, match="opencv-python"):
        resize(photo_like(20, 30), 10, "area")
    assert resize(photo_like(20, 30), 10).shape == (6, 10, 3)
