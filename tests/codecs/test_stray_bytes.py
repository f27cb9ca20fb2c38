"""JPEGs whose pixels are all there load although libjpeg warns of what stands behind them; others do not."""

import numpy as np
import pytest

from ffcv_ssl.codecs.decode import decode_box, decode_jpeg
from ffcv_ssl.codecs.integrity import check_integrity, without_stray_bytes
from ffcv_ssl.errors import ImageError
from tests.reference import jpeg as make
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
def test_blemished__has_the_pixels_of_the_sound_file(kind, blemish):
    """Whole and in part, on the rung of this machine; `strict` refuses what libjpeg warns of."""
    sound = encoded(kind)
    data = BLEMISHES[blemish](sound)
    expected = decode_jpeg(sound, strict=True)
    np.testing.assert_array_equal(decode_jpeg(data), expected)
    part = np.zeros_like(expected)
    decode_box(data, part, (33, 20, 17, 30))
    np.testing.assert_array_equal(part[33:50, 20:50], expected[33:50, 20:50])
    if blemish != "one byte":  # libjpeg reads ahead, and may not notice
        with pytest.raises(ImageError):
            decode_jpeg(data, strict=True)


@pytest.mark.parametrize("kind", KINDS)
def test_repaired__is_sound_and_nothing_else_changes(kind):
    """What is returned passes the strict check; a sound file comes back as it is."""
    sound = encoded(kind)
    assert without_stray_bytes(sound) == sound
    for blemish in BLEMISHES.values():
        repaired = without_stray_bytes(blemish(sound))
        check_integrity(repaired)
        assert len(repaired) <= len(sound)


@pytest.mark.parametrize("kind", KINDS)
def test_missing_pixels__are_an_error_as_before(kind):
    """A file cut anywhere before its last block, or with bytes behind a restart marker, does not decode."""
    sound = encoded(kind)
    scan = sound.index(b"\xff\xda")
    for end in np.linspace(scan + 20, len(sound) - 12, 9).astype(int):
        for ending in (b"", b"\xff\xd9", bytes(40)):  # zeros are codes of blocks, too
            with pytest.raises(ImageError):
                decode_jpeg(sound[:end] + ending)


def test_much_behind_the_last_block__is_an_error_as_before():
    """It may be the rest of data that was overwritten: there is no telling that every pixel is there."""
    sound = encoded("baseline")
    for stray in (bytes(range(65)), bytes(range(255)) * 4):
        with pytest.raises(ImageError):
            decode_jpeg(sound[:-2] + stray + sound[-2:])


def test_bytes_between_restarts__are_an_error_as_before():
    """There libjpeg may have lost its place, so nothing is said of the blocks that follow."""
    sound = encoded("restarts")
    restart = sound.index(b"\xff\xd1")
    with pytest.raises(ImageError):
        decode_jpeg(sound[:restart] + b"\x5a" * 9 + sound[restart:])


@pytest.mark.parametrize("kind", ["baseline", "restarts"])
def test_second_scan_of_a_whole_image__is_an_error(kind):
    """A scan that stands twice is refused by libjpeg; the check of the other decoders says the same."""
    sound = encoded(kind)
    scan = sound[sound.index(b"\xff\xda") : -2]
    twice = sound[:-2] + scan + sound[-2:]
    for refuses in (check_integrity, without_stray_bytes, decode_jpeg):
        with pytest.raises(ImageError):
            refuses(twice)
