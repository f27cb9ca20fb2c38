"""Slices of a JPEG, cut at its restart markers: the rows they hold, and their pixels."""

import numpy as np
import pytest
import simplejpeg

from ffcv_ssl.codecs import native, slices
from ffcv_ssl.codecs.encode import encode_jpeg
from ffcv_ssl.codecs.jpeg import SUBSAMPLINGS, inspect_jpeg
from tests.reference import jpeg as make
from tests.reference.boxes import boxes, inside
from tests.reference.images import photo_like

HEIGHT, WIDTH = 267, 117  # 17 rows of 16 lines, 34 of 8; the last ones are not full
PIXELS = photo_like(HEIGHT, WIDTH)
JPEG = encode_jpeg(PIXELS, 90)
UNCUT = {
    "no restart markers": make.encode(PIXELS),
    "an interval of one MCU": make.encode(PIXELS, restart_marker_blocks=1),
    "an interval of two rows": make.encode(PIXELS, restart_marker_rows=2),
    "progressive": make.encode(PIXELS, restart_marker_rows=1, progressive=True),
    "a scan per component": make.random_of_factors(
        (1, 1), (1, 1), HEIGHT, WIDTH, restarts=True, interleaved=False
    ),
    "of another height": make.with_frame(JPEG, height=HEIGHT - 1),
}


def cut(data, top, bottom, height=HEIGHT):
    """Return the slice as bytes, its first line and its number of lines.

    Fail if more bytes were written than the file has.
    """
    encoded = np.frombuffer(data, np.uint8).copy()
    memory = np.full(encoded.size + 100, 77, np.uint8)
    size, line, lines = slices.cut_rows(encoded, height, top, bottom, memory)
    assert (memory[encoded.size :] == 77).all()
    assert bytes(encoded) == bytes(data)
    return memory[:size].tobytes(), line, lines


def test_slice__is_a_jpeg_of_the_rows():
    """A slice is a complete JPEG.

    Lines 96 to 119 lie in rows 6 and 7 of MCUs; upsampling of line 96 also reads row 5.
    """
    data, line, lines = cut(JPEG, 96, 120)
    assert (line, lines) == (80, 48)
    info = inspect_jpeg(data)
    assert (info.height, info.width, info.restart_interval) == (48, WIDTH, 8)
    assert [
        data[i + 1] for i in range(len(data) - 1) if data[i] == 0xFF and 0xD0 <= data[i + 1] <= 0xD9
    ] == [0xD8, 0xD0, 0xD1, 0xD9]
    pixels = simplejpeg.decode_jpeg(data)
    np.testing.assert_array_equal(pixels[16:40], simplejpeg.decode_jpeg(JPEG)[96:120])


@pytest.mark.parametrize(
    ("top", "bottom", "expected"),
    [
        (0, 1, (0, 16)),
        (0, 16, (0, 32)),
        (15, 17, (0, 32)),
        (48, 64, (32, 48)),
        (49, 63, (48, 16)),
        (256, 267, (240, 27)),
        (257, 267, (256, 11)),
    ],
)
def test_slice__holds_one_more_row_where_upsampling_reads_it(top, bottom, expected):
    """A slice has one more row of MCUs where lines reach the edge of theirs, within the image."""
    assert cut(JPEG, top, bottom)[1:] == expected


def test_slice__is_cut_if_it_pays():
    """A cut must save two rows of MCUs, above or below."""
    assert cut(JPEG, 0, 14 * 16)[0]
    assert not cut(JPEG, 0, 15 * 16)[0]
    assert not cut(JPEG, 32, HEIGHT)[0]
    assert cut(JPEG, 48, HEIGHT)[1:] == (32, HEIGHT - 32)


@pytest.mark.parametrize("kind", UNCUT)
def test_slice__of_other_files_is_not_cut(kind):
    """Files of other structure, or of another height than the record, are not cut."""
    assert cut(UNCUT[kind], 100, 120) == (b"", 0, 0)


@pytest.mark.parametrize(("luma", "chroma"), SUBSAMPLINGS)
def test_slice__has_the_pixels_of_the_whole(luma, chroma):
    """For all sampling factors, the requested lines have the pixels of the whole file."""
    data = make.random_of_factors(luma, chroma, HEIGHT, WIDTH, restarts=True)
    whole = simplejpeg.decode_jpeg(data)
    for top, _, height, _ in boxes(HEIGHT, WIDTH, count=30):
        part, line, lines = cut(data, top, top + height)
        if part:
            pixels = simplejpeg.decode_jpeg(part)
            assert pixels.shape == (lines, WIDTH, 3)
            np.testing.assert_array_equal(
                pixels[top - line : top - line + height], whole[top : top + height]
            )
    assert len(cut(data, 128, 129)[0]) < len(data) / 2


def test_slice__of_gray_has_no_margin():
    """Without subsampled chroma a row of MCUs does not depend on its neighbors."""
    data = make.encode(PIXELS, "L", restart_marker_rows=1)
    part, line, lines = cut(data, 104, 112)
    assert (line, lines) == (104, 8)
    np.testing.assert_array_equal(
        simplejpeg.decode_jpeg(part), simplejpeg.decode_jpeg(data)[104:112]
    )


def markers(data):
    """Return the offsets of the restart markers."""
    return [
        i
        for i in range(data.index(b"\xff\xda"), len(data) - 1)
        if data[i] == 0xFF and 0xD0 <= data[i + 1] <= 0xD7
    ]


def test_slice__is_not_cut_at_wrong_markers():
    """A file with a missing or misnumbered marker before the last needed row is not cut."""
    for index, offset in enumerate(markers(JPEG)):
        missing = JPEG[:offset] + JPEG[offset + 2 :]
        misnumbered = JPEG[: offset + 1] + bytes([0xD0 + (index + 3) % 8]) + JPEG[offset + 2 :]
        for data in (missing, misnumbered):
            assert bool(cut(data, 100, 120)[0]) == (index > 7), index
    assert cut(JPEG[:-2], 230, HEIGHT) == (b"", 0, 0)  # the last row ends with the image
    assert cut(JPEG[: markers(JPEG)[3]], 100, 120) == (b"", 0, 0)


def test_slice__of_any_bytes_stays_in_bounds(monkeypatch):
    """No access is out of bounds, for files with changed, missing and random bytes.

    The functions run as plain Python, where such an access raises an error.
    """
    for name in ("layout", "_rows_of_mcus", "_next_marker", "_word"):
        monkeypatch.setattr(slices, name, getattr(slices, name).py_func)
    monkeypatch.setattr(slices, "BLOCK", 1 << 30)  # only speed depends on it
    rng = np.random.default_rng(0)
    header = JPEG[: JPEG.index(b"\xff\xda") + 20]
    small = encode_jpeg(photo_like(70, 20), 60)
    files = [header[:end] for end in range(0, len(header), 3)] + [rng.bytes(200) for _ in range(20)]
    for data in (header, small):
        for position in rng.integers(2, len(data), 150):
            changed = bytearray(data)
            changed[position] = int(rng.choice([0x00, 0x01, 0x7F, 0xC0, 0xDA, 0xDD, 0xFF]))
            files.append(bytes(changed))
    for data in files:
        encoded = np.frombuffer(data, np.uint8).astype(np.int64)  # sums of bytes must not wrap
        out = np.zeros(encoded.size, np.int64)
        slices.cut_rows.py_func(encoded, 70, 20, 30, out)


@pytest.mark.skipif(
    not native.decode_address(), reason="the native decoder is not built, or switched off"
)
@pytest.mark.parametrize("kind", ["4:4:4", "4:2:2", "4:2:0", "gray", "uncut"])
def test_decode_box__cuts_and_decodes_in_one_compiled_call(kind):
    """A box has the pixels of the whole image at every denominator; no other byte is written."""
    handle = native.Handle()
    decoder = native.decode_address(), handle.address
    options = {"gray": {"mode": "L"}, "uncut": {"restart_marker_rows": 0}}.get(
        kind, {"subsampling": kind}
    )
    data = np.frombuffer(
        make.encode(PIXELS, **{"restart_marker_rows": 1, **options}), np.uint8
    ).copy()
    scratch = np.zeros(data.size, np.uint8)
    for denominator in (1, 2, 4, 8):
        height, width = -(-HEIGHT // denominator), -(-WIDTH // denominator)
        images = []
        for box in [(0, 0, height, width), *boxes(height, width, count=20)]:
            memory = np.full(3 * height * width + 200, 77, np.uint8)
            status = slices.decode_box(
                decoder, data, (HEIGHT, WIDTH), box, denominator, scratch, memory[100:-100]
            )
            assert status == 0, handle.message()
            assert (memory[:100] == 77).all()
            assert (memory[-100:] == 77).all()
            images.append(memory[100:-100].reshape(height, width, 3))
            np.testing.assert_array_equal(inside(images[-1], box), inside(images[0], box))
    assert (
        slices.decode_box(
            decoder,
            data,
            (HEIGHT + 1, WIDTH),
            (200, 0, 1, 1),
            1,
            scratch,
            np.empty(3 * 268 * 117, np.uint8),
        )
        == 1
    )
    assert "wanted (268, 117)" in handle.message()
