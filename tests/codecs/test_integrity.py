"""The check for damage that libjpeg only warns about, compared with libjpeg."""

from collections import Counter

import numpy as np
import pytest
import simplejpeg

from ffcv_ssl.codecs.entropy import code_table
from ffcv_ssl.errors import ImageError
from tests.reference import jpeg as make
from tests.reference.decoders import check_integrity
from tests.reference.images import photo_like

PIXELS = photo_like(53, 70)


def libjpeg_accepts(data):
    """Return whether libjpeg decodes without a warning; simplejpeg turns warnings into errors."""
    try:
        simplejpeg.decode_jpeg(data, strict=True)
    except ValueError:
        return False
    return True


def check_accepts(data):
    try:
        check_integrity(data)
    except ImageError:
        return False
    return True


def damage(data, rng):
    """Return the data with one random change after the frame header."""
    position = int(rng.integers(data.index(b"\xff\xda") + 14, len(data) - 2))
    length = int(rng.integers(1, 16))
    kind = int(rng.integers(5))
    if kind == 0:
        return (
            data[:position]
            + bytes([data[position] ^ 1 << int(rng.integers(8))])
            + data[position + 1 :]
        )
    if kind == 1:
        return data[:position]
    if kind == 2:
        return data[:position] + rng.bytes(length) + data[position + length :]
    if kind == 3:
        return data[:position] + data[position + length :]
    return (
        data[:position]
        + b"\xff"
        + bytes([int(rng.choice([0x00, 0xD0, 0xD5, 0xD9, 0xFE]))])
        + data[position + 2 :]
    )


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("interval", [0, 1, 3])
def test_check__agrees_with_libjpeg(mode, progressive, interval):
    """The check accepts those of 600 damaged files that libjpeg accepts.

    It may disagree on a few stray bytes in 2 of 100 files.
    """
    rng = np.random.default_rng(interval)
    outcomes = Counter()
    for subsampling in ("4:4:4", "4:2:2", "4:2:0"):
        sound = make.encode(
            PIXELS,
            mode,
            progressive=progressive,
            subsampling=subsampling,
            restart_marker_blocks=interval,
        )
        assert check_accepts(sound)
        for _ in range(200):
            data = damage(sound, rng)
            outcomes[libjpeg_accepts(data), check_accepts(data)] += 1
    assert outcomes[False, False] > 150
    assert outcomes[True, True] > 25
    assert outcomes[True, False] + outcomes[False, True] <= 12


def test_check__follows_fill_bytes():
    """Fill bytes (0xFF) before a marker, or before the zero of a stuffed 0xFF, are skipped."""
    sound = make.encode(PIXELS, restart_marker_blocks=2)
    filled = sound.replace(b"\xff\xd1", b"\xff\xff\xff\xd1").replace(b"\xff\xd9", b"\xff\xff\xd9")
    assert filled != sound
    assert libjpeg_accepts(filled)
    assert check_accepts(filled)


def test_check__passes_padding_before_the_end_marker():
    """libjpeg and the check accept a few bytes of padding after a scan, as some cameras write."""
    sound = make.encode(PIXELS)
    assert check_accepts(sound[:-2] + bytes(3) + sound[-2:])
    assert not check_accepts(sound[:-2] + bytes(8) + sound[-2:])


def test_check__names_the_damage():
    """The message corresponds to libjpeg's warning."""
    sound = make.encode(PIXELS, restart_marker_blocks=2)
    for broken, message in [
        (sound[:-2], "premature end of file"),
        (sound[:2] + b"\x00" + sound[2:], "extraneous bytes before marker"),
        (sound.replace(b"\xff\xd1", b"\xff\xd2"), "restart markers out of order"),
        (sound.replace(b"\xff\xd2", b"\xff\xd9"), "restart markers, wanted"),
        (sound.replace(b"JFIF\x00\x01", b"JFIF\x00\x07"), "JFIF"),
        (sound.replace(b"\xff\xc4", b"\xff\xfe"), "undefined"),
    ]:
        assert (
            not libjpeg_accepts(broken) or message == "undefined"
        )  # TurboJPEG has the standard tables
        with pytest.raises(ImageError, match=message):
            check_integrity(broken)


def test_check__refuses_other_coding_processes():
    """Arithmetic coding is an error that names it."""
    with pytest.raises(ImageError, match="arithmetic"):
        check_integrity(make.ARITHMETIC)


def test_code_table__assigns_canonical_codes():
    """Codes of each length are consecutive (T.81, annex C): here 0, 10 and 110; 111… is unused."""
    table = code_table(bytes([1, 1, 1] + [0] * 13), bytes([5, 6, 7]))
    for window, entry in [
        (0x0000, 0x105),
        (0x7FFF, 0x105),
        (0x8000, 0x206),
        (0xBFFF, 0x206),
        (0xC000, 0x307),
        (0xDFFF, 0x307),
        (0xE000, 0),
        (0xFFFF, 0),
    ]:
        assert table[window] == entry
    with pytest.raises(ValueError, match="more codes than fit"):
        code_table(bytes([3] + [0] * 15), bytes(3))
