"""Complete JPEGs load although libjpeg warns about stray bytes; incomplete ones do not."""

import numpy as np
import pytest

from ffcv_ssl.codecs.decode import decode_box, decode_jpeg
from ffcv_ssl.codecs.integrity import without_stray_bytes
from ffcv_ssl.errors import ImageError
from tests.reference import jpeg as make
from tests.reference.decoders import check_integrity
from tests.reference.images import photo_like

PIXELS = photo_like(53, 70)
KINDS = {
    "baseline": {},
    "restarts": {"restart_marker_rows": 1},
    "progressive": {"progressive": True},
}


def encoded(kind):
    return make.encode(PIXELS, "RGB", subsampling="4:2:0", **KINDS[kind])


BLEMISHES = {
    "one byte": lambda data: data[:-2] + b"\x5a" + data[-2:],
    "sixty bytes": lambda data: data[:-2] + bytes(range(60)) + data[-2:],
    "padding": lambda data: data[:-2] + b"\x5a" * 500 + data[-2:],
    "stuffed bytes": lambda data: data[:-2] + b"\xff\x00" * 9 + data[-2:],
    "no end marker": lambda data: data[:-2],
}


@pytest.mark.parametrize("blemish", BLEMISHES)
@pytest.mark.parametrize("kind", KINDS)
def test_stray_bytes__change_no_pixels(kind, blemish):
    """Image and box are those of the intact file; `strict` refuses the file."""
    intact = encoded(kind)
    data = BLEMISHES[blemish](intact)
    expected = decode_jpeg(intact, strict=True)
    np.testing.assert_array_equal(decode_jpeg(data), expected)
    part = np.zeros_like(expected)
    decode_box(data, part, (33, 20, 17, 30))
    np.testing.assert_array_equal(part[33:50, 20:50], expected[33:50, 20:50])
    if blemish != "one byte":  # libjpeg reads ahead and may not notice
        with pytest.raises(ImageError):
            decode_jpeg(data, strict=True)


@pytest.mark.parametrize("kind", KINDS)
def test_repaired__passes_the_strict_check(kind):
    """A repaired file passes the strict check; an intact file is returned unchanged."""
    intact = encoded(kind)
    assert without_stray_bytes(intact) == intact
    for blemish in BLEMISHES.values():
        repaired = without_stray_bytes(blemish(intact))
        check_integrity(repaired)
        assert len(repaired) <= len(intact)


@pytest.mark.parametrize("kind", KINDS)
def test_missing_pixels__are_an_error(kind):
    """A file that ends before its last block does not decode, whatever follows."""
    intact = encoded(kind)
    scan = intact.index(b"\xff\xda")
    for end in np.linspace(scan + 20, len(intact) - 12, 9).astype(int):
        for ending in (b"", b"\xff\xd9", bytes(40)):  # zeros may be valid codes
            with pytest.raises(ImageError):
                decode_jpeg(intact[:end] + ending)


def test_many_stray_bytes__are_an_error():
    """They may be the remains of overwritten data, so the image may be incomplete."""
    intact = encoded("baseline")
    for stray in (bytes(range(65)), bytes(range(255)) * 4):
        with pytest.raises(ImageError):
            decode_jpeg(intact[:-2] + stray + intact[-2:])


def test_bytes_between_restarts__are_an_error():
    """libjpeg may have lost its position there, so the following blocks are unreliable."""
    intact = encoded("restarts")
    restart = intact.index(b"\xff\xd1")
    with pytest.raises(ImageError):
        decode_jpeg(intact[:restart] + b"\x5a" * 9 + intact[restart:])


@pytest.mark.parametrize("kind", ["baseline", "restarts"])
def test_second_scan_of_a_whole_image__is_an_error(kind):
    """A repeated scan is an error for libjpeg and for the check."""
    intact = encoded(kind)
    scan = intact[intact.index(b"\xff\xda") : -2]
    twice = intact[:-2] + scan + intact[-2:]
    for refuses in (check_integrity, without_stray_bytes, decode_jpeg):
        with pytest.raises(ImageError):
            refuses(twice)
