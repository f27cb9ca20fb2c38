"""The decoder backends, compared with each other and with OpenCV and Pillow."""

import itertools
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import numpy as np
import pytest

from ffcv_ssl.codecs import native
from ffcv_ssl.codecs.decode import (
    available_decoders,
    decode_box,
    decode_jpeg,
    decoder_name,
    selected_decoder,
)
from ffcv_ssl.codecs.jpeg import SUBSAMPLINGS
from ffcv_ssl.errors import ConfigError, ImageError
from tests.reference import jpeg as make
from tests.reference.boxes import boxes, inside
from tests.reference.decoders import all_decoders
from tests.reference.images import photo_like

DECODERS = all_decoders()
PIXELS = photo_like(83, 117)
KINDS = {
    "4:4:4": make.subsampled(PIXELS, "4:4:4"),
    "4:2:2": make.subsampled(PIXELS, "4:2:2"),
    "4:2:0": make.subsampled(PIXELS, "4:2:0"),
    "4:4:0": make.subsampled(PIXELS, "4:4:0"),
    "4:1:1": make.subsampled(PIXELS, "4:1:1"),
    "progressive": make.encode(PIXELS, progressive=True),
    "progressive with restarts": make.encode(PIXELS, progressive=True, restart_marker_blocks=3),
    "restarts": make.encode(PIXELS, restart_marker_rows=1),
    "optimized": make.encode(PIXELS, optimize=True),
    "gray": make.encode(PIXELS, "L"),
    "progressive gray": make.encode(PIXELS, "L", progressive=True),
    "extended": make.with_frame(make.encode(PIXELS), marker=0xC1),
    "oriented": make.with_orientation(make.encode(PIXELS), 6),
    "trailing bytes": make.encode(PIXELS) + b"and more",
}


@pytest.fixture(params=DECODERS)
def decoder(request):
    """One decoder, as a function of the data that returns the pixels."""

    def decode_with(data, shape=PIXELS.shape, box=None):
        out = np.full(shape, 77, np.uint8)
        DECODERS[request.param](data, out, box)
        return out

    return decode_with


def test_available_decoders__native_first():
    """The native decoder, if built, comes before simplejpeg; the first one is selected."""
    expected = ["native", "simplejpeg"] if native.decode_address() else ["simplejpeg"]
    assert [name for name, _ in available_decoders()] == expected
    assert decoder_name() == expected[0]


@pytest.mark.parametrize("kind", KINDS)
def test_decode__agrees_for_every_decoder(decoder, kind):
    """All decoders use the accurate DCT and fancy upsampling of libjpeg-turbo.

    Their pixels are identical, and close to the original.
    """
    expected = decode_jpeg(KINDS[kind])
    np.testing.assert_array_equal(decoder(KINDS[kind]), expected)
    reference = (
        PIXELS
        if "gray" not in kind
        else np.repeat((PIXELS @ [0.299, 0.587, 0.114])[..., None], 3, axis=2)
    )
    assert np.abs(expected.astype(float) - reference).mean() < 15


@pytest.mark.parametrize("factors", SUBSAMPLINGS)
def test_decode__of_every_kept_subsampling(decoder, factors):
    """Every decoder reads every spelling of sampling factors that may be kept."""
    data, shape = make.grey_of_factors(*factors)
    assert (decoder(data, (*shape, 3)) == 128).all()


DAMAGES = [
    (kind, damage)
    for kind in ("4:2:0", "progressive", "restarts", "gray", "progressive with restarts")
    for damage in make.damaged(KINDS[kind])
    if (kind, damage) != ("restarts", "garbage in the middle")  # it happens to be valid code
]


@pytest.mark.parametrize(("kind", "damage"), DAMAGES)
def test_decode__is_strict_for_every_decoder(decoder, kind, damage):
    """A file that libjpeg decodes only with a warning, or not at all, is an ImageError."""
    with pytest.raises(ImageError):
        decoder(make.damaged(KINDS[kind])[damage])


@pytest.mark.parametrize(
    "data",
    [b"", b"\xff\xd8", bytes(500), b"<!DOCTYPE html><html></html>"],
    ids=["empty", "start", "zeros", "html"],
)
def test_decode__refuses_other_data(decoder, data):
    """Data that is not a JPEG is an ImageError."""
    with pytest.raises(ImageError):
        decoder(data)


@pytest.mark.parametrize(
    "shape", [(117, 83, 3), (84, 117, 3), (82, 117, 3), (10, 10, 3), (200, 200, 3)]
)
def test_decode__refuses_an_image_of_another_size(decoder, shape):
    """An image that is larger than `out`, smaller or transposed is an ImageError."""
    with pytest.raises(ImageError):
        decoder(KINDS["4:2:0"], shape)


def test_decode__writes_in_place():
    """The result is in `out`, and the data may be any buffer."""
    scratch = np.zeros((5, 83, 117, 3), np.uint8)
    for data in (
        KINDS["4:2:0"],
        bytearray(KINDS["4:2:0"]),
        memoryview(KINDS["4:2:0"]),
        np.frombuffer(KINDS["4:2:0"], np.uint8),
    ):
        assert decode_jpeg(data, scratch[3]) is not None
        np.testing.assert_array_equal(scratch[3], decode_jpeg(KINDS["4:2:0"]))
    assert not scratch[[0, 1, 2, 4]].any()


@pytest.mark.parametrize(
    "out",
    [
        np.zeros((83, 117, 3), np.int16),
        np.zeros((83, 117), np.uint8),
        np.zeros((83, 117, 4), np.uint8),
        np.zeros((83, 117, 3), np.uint8, order="F"),
    ],
    ids=["dtype", "gray", "four channels", "order"],
)
def test_decode__refuses_other_output_arrays(out):
    """`out` must be C-contiguous (H, W, 3) uint8."""
    with pytest.raises(ImageError, match="C-contiguous"):
        decode_jpeg(KINDS["4:2:0"], out)


BOX_KINDS = {
    **{
        f"{luma} {chroma}": make.random_of_factors(luma, chroma, 83, 117)
        for luma, chroma in SUBSAMPLINGS
    },
    **{
        f"{luma} {chroma} restarts": make.random_of_factors(luma, chroma, 83, 117, restarts=True)
        for luma, chroma in SUBSAMPLINGS
    },
    **KINDS,
}


@pytest.mark.parametrize("kind", BOX_KINDS)
def test_box__equals_the_full_decode_for_every_decoder(kind):
    """For every subsampling and decoder, the box has the pixels of a full decode.

    They do not depend on the previous contents of `out`.
    """
    expected = decode_jpeg(BOX_KINDS[kind])
    for name, decode_with in DECODERS.items():
        for sentinel, box in zip(itertools.cycle((77, 178)), boxes(83, 117, count=12)):
            out = np.full(PIXELS.shape, sentinel, np.uint8)
            decode_with(BOX_KINDS[kind], out, box)
            np.testing.assert_array_equal(
                inside(out, box), inside(expected, box), err_msg=f"{name}, {box}"
            )


@pytest.mark.parametrize("kind", ["4:2:0", "progressive", "restarts"])
def test_box__of_damaged_files_never_shows_other_pixels(kind):
    """A box of a damaged file is an error, or it has the pixels of the intact file.

    The latter happens where the damage was cut away.
    """
    expected = decode_jpeg(KINDS[kind])
    decoded = set()
    for damage, data in make.damaged(KINDS[kind]).items():
        if (kind, damage) == ("restarts", "garbage in the middle"):
            continue
        for name, decode_with in DECODERS.items():
            for box in ((2, 20, 10, 90), (60, 0, 23, 117), (30, 30, 1, 1)):
                out = np.full(PIXELS.shape, 77, np.uint8)
                with suppress(ImageError):
                    decode_with(data, out, box)
                    np.testing.assert_array_equal(
                        inside(out, box), inside(expected, box), err_msg=f"{damage}, {name}, {box}"
                    )
                    decoded.add((damage, name, box))
    assert all(kind == "restarts" and name in ("native", "simplejpeg") for _, name, _ in decoded)
    assert bool(decoded) == (kind == "restarts")


def test_box__damage_in_its_rows_is_an_error(decoder):
    """A missing byte in a row of MCUs that the box needs is an error for every decoder.

    That includes decoders that cut the row out of the file.
    """
    data = KINDS["restarts"]
    restarts = [
        i
        for i in range(data.index(b"\xff\xda"), len(data) - 1)
        if data[i] == 0xFF and 0xD0 <= data[i + 1] <= 0xD7
    ]
    for removed in (1, 2, 9):
        damaged = (
            data[: restarts[4] - removed] + data[restarts[4] :]
        )  # the fifth of six rows: lines 64 to 79
        with pytest.raises(ImageError):
            decoder(damaged, box=(66, 0, 4, 117))


@pytest.mark.parametrize(
    "box", [(-1, 0, 2, 2), (0, -1, 2, 2), (0, 0, 0, 5), (0, 0, 5, 0), (80, 0, 4, 4), (0, 115, 4, 4)]
)
def test_box__must_lie_in_the_image(box):
    """A box that is empty or extends beyond the image is refused before anything is decoded."""
    out = np.full(PIXELS.shape, 77, np.uint8)
    with pytest.raises(ImageError, match="is empty or extends beyond the image"):
        decode_box(KINDS["4:2:0"], out, box)
    assert (out == 77).all()


def test_box__is_decoded_by_the_selected_decoder():
    """`decode_box` fills the box of `out` and refuses the arrays that `decode_jpeg` refuses."""
    out = np.zeros(PIXELS.shape, np.uint8)
    decode_box(bytearray(KINDS["restarts"]), out, (50, 10, 20, 30))
    np.testing.assert_array_equal(out[50:70, 10:40], decode_jpeg(KINDS["restarts"])[50:70, 10:40])
    with pytest.raises(ImageError, match="C-contiguous"):
        decode_box(KINDS["restarts"], out.astype(np.int16), (50, 10, 20, 30))


@pytest.fixture
def fresh_selection(monkeypatch):
    """The decoder is selected anew, in the test and after it."""
    monkeypatch.delenv("FFCV_SSL_DECODER", raising=False)
    selected_decoder.cache_clear()
    yield
    selected_decoder.cache_clear()


@pytest.mark.usefixtures("fresh_selection")
def test_selection__follows_the_environment(monkeypatch):
    """`FFCV_SSL_DECODER` selects the decoder; compiled code does not use another one either."""
    monkeypatch.setenv("FFCV_SSL_DECODER", "simplejpeg")
    assert decoder_name() == "simplejpeg"
    assert native.decode_address() == 0


@pytest.mark.usefixtures("fresh_selection")
@pytest.mark.parametrize("name", ["fast", "opencv", "pillow", ""])
def test_selection__refuses_unknown_names(monkeypatch, name):
    """Another name is a ConfigError that lists the decoders, not an error of an image."""
    monkeypatch.setenv("FFCV_SSL_DECODER", name)
    with pytest.raises(
        ConfigError, match=rf"^FFCV_SSL_DECODER is one of native, simplejpeg, got '{name}'\.$"
    ):
        decode_jpeg(KINDS["4:2:0"])


@pytest.mark.usefixtures("fresh_selection")
def test_selection__refuses_unavailable_decoders(monkeypatch):
    """A selected decoder that cannot be imported is a ConfigError with the reason."""
    monkeypatch.setenv("FFCV_SSL_DECODER", "simplejpeg")
    monkeypatch.setitem(sys.modules, "simplejpeg", None)
    with pytest.raises(ConfigError, match="FFCV_SSL_DECODER=simplejpeg: import of simplejpeg"):
        decoder_name()
    monkeypatch.setenv("FFCV_SSL_DECODER", "native")
    monkeypatch.setattr(native, "_native", None)
    monkeypatch.setattr(native, "_import_error", "not built", raising=False)
    with pytest.raises(ConfigError, match="FFCV_SSL_DECODER=native: the native decoder is"):
        decoder_name()


@pytest.mark.usefixtures("fresh_selection")
def test_selection__is_simplejpeg_without_the_native_decoder(monkeypatch):
    """Without the native decoder simplejpeg decodes, to the pixels of the reference decoders."""
    monkeypatch.setenv("FFCV_SSL_NATIVE", "0")
    assert decoder_name() == "simplejpeg"
    expected = np.empty(PIXELS.shape, np.uint8)
    DECODERS["pillow"](KINDS["progressive"], expected)
    np.testing.assert_array_equal(decode_jpeg(KINDS["progressive"]), expected)
    with pytest.raises(ImageError):
        decode_jpeg(make.damaged(KINDS["progressive"])["middle missing"])


def test_decode__refuses_headers_of_too_many_pixels():
    """A small file whose header declares 4 gigapixels is refused before memory is allocated."""
    with pytest.raises(ImageError, match="decompression bombs"):
        decode_jpeg(make.with_frame(KINDS["4:2:0"], height=65_500, width=65_500))


def test_decode__runs_in_many_threads():
    """Concurrent decodes into separate arrays have the result of a single one."""
    kinds = list(KINDS.values()) * 8
    with ThreadPoolExecutor(4) as pool:
        results = list(
            pool.map(lambda data: decode_jpeg(data, np.empty(PIXELS.shape, np.uint8)), kinds)
        )
    for data, result in zip(kinds, results, strict=True):
        np.testing.assert_array_equal(result, decode_jpeg(data))


@pytest.mark.shared_data
def test_decode__of_real_photos_agrees_for_every_decoder(shared_data):
    """All 315 photos decode without a warning; every fourth is identical for every decoder."""
    paths = sorted((shared_data / "photos").glob("*/*.jpg"))
    assert len(paths) == 315
    for index, path in enumerate(paths):
        data = path.read_bytes()
        expected = decode_jpeg(data)
        for decode_with in DECODERS.values() if index % 4 == 0 else ():
            out = np.empty_like(expected)
            decode_with(data, out)
            np.testing.assert_array_equal(out, expected, err_msg=path.name)
