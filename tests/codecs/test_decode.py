import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from ffcv_ssl.codecs import decode, native
from ffcv_ssl.codecs.decode import decode_jpeg, decoder_name, rungs
from ffcv_ssl.codecs.jpeg import SUBSAMPLINGS
from ffcv_ssl.errors import ImageError
from tests.reference import jpeg as make
from tests.reference.images import photo_like

RUNGS = dict(rungs())
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
    "grey": make.encode(PIXELS, "L"),
    "progressive grey": make.encode(PIXELS, "L", progressive=True),
    "extended": make.with_frame(make.encode(PIXELS), marker=0xC1),
    "oriented": make.with_orientation(make.encode(PIXELS), 6),
    "trailing bytes": make.encode(PIXELS) + b"and more",
}


@pytest.fixture(params=RUNGS)
def rung(request):
    """One decoder of the ladder: a function of the bytes that returns the pixels."""

    def decode_with(data, shape=PIXELS.shape):
        out = np.full(shape, 77, np.uint8)
        RUNGS[request.param](data, out)
        return out

    return decode_with


def test_ladder__has_all_its_rungs_here():
    """Three decoders are installed with the package, simplejpeg first; before it stands the native one where it was built."""
    assert list(RUNGS)[-3:] == ["simplejpeg", "opencv", "pillow"]
    assert list(RUNGS)[:-3] == (["native"] if native.decode_address() else [])
    assert decoder_name() == next(iter(RUNGS))


@pytest.mark.parametrize("kind", KINDS)
def test_decode__agrees_on_every_rung(rung, kind):
    """All rungs run libjpeg-turbo's accurate DCT and fancy upsampling: their pixels are identical, and close to the original."""
    expected = decode_jpeg(KINDS[kind])
    np.testing.assert_array_equal(rung(KINDS[kind]), expected)
    reference = PIXELS if "grey" not in kind else np.repeat((PIXELS @ [0.299, 0.587, 0.114])[..., None], 3, axis=2)
    assert np.abs(expected.astype(float) - reference).mean() < 15


@pytest.mark.parametrize("factors", SUBSAMPLINGS)
def test_decode__of_every_kept_subsampling(rung, factors):
    """Every spelling of sampling factors that may be kept decodes on every rung."""
    data, shape = make.grey_of_factors(*factors)
    assert (rung(data, (*shape, 3)) == 128).all()


DAMAGES = [
    (kind, damage)
    for kind in ("4:2:0", "progressive", "restarts", "grey", "progressive with restarts")
    for damage in make.damaged(KINDS[kind])
    if (kind, damage) != ("restarts", "garbage in the middle")  # that happens to be valid code
]


@pytest.mark.parametrize(("kind", "damage"), DAMAGES)
def test_decode__is_strict_on_every_rung(rung, kind, damage):
    """What libjpeg would decode with a warning, or not at all, is an ImageError on every rung."""
    with pytest.raises(ImageError):
        rung(make.damaged(KINDS[kind])[damage])


@pytest.mark.parametrize("data", [b"", b"\xff\xd8", bytes(500), b"<!DOCTYPE html><html></html>"], ids=["empty", "start", "zeros", "html"])
def test_decode__refuses_what_is_no_jpeg(rung, data):
    """Foreign bytes are an ImageError on every rung."""
    with pytest.raises(ImageError):
        rung(data)


@pytest.mark.parametrize("shape", [(117, 83, 3), (84, 117, 3), (82, 117, 3), (10, 10, 3), (200, 200, 3)])
def test_decode__refuses_an_image_of_another_size(rung, shape):
    """An image that does not fill `out` exactly is an ImageError, larger, smaller or turned."""
    with pytest.raises(ImageError):
        rung(KINDS["4:2:0"], shape)


def test_decode__writes_in_place():
    """`out` is what is returned, and bytes may come in any buffer."""
    scratch = np.zeros((5, 83, 117, 3), np.uint8)
    for data in (KINDS["4:2:0"], bytearray(KINDS["4:2:0"]), memoryview(KINDS["4:2:0"]), np.frombuffer(KINDS["4:2:0"], np.uint8)):
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
    ids=["dtype", "grey", "four channels", "order"],
)
def test_decode__refuses_another_kind_of_buffer(out):
    """`out` is C-contiguous (H, W, 3) uint8."""
    with pytest.raises(ImageError, match="C-contiguous"):
        decode_jpeg(KINDS["4:2:0"], out)


def test_decode__refuses_promises_of_too_many_pixels():
    """A small file whose header promises 4 gigapixels is refused before memory is taken."""
    with pytest.raises(ImageError, match="decompression bombs"):
        decode_jpeg(make.with_frame(KINDS["4:2:0"], height=65_500, width=65_500))


def test_decode__runs_in_many_threads():
    """Concurrent decodes into buffers of their own give what one gives."""
    kinds = list(KINDS.values()) * 8
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda data: decode_jpeg(data, np.empty(PIXELS.shape, np.uint8)), kinds))
    for data, result in zip(kinds, results, strict=True):
        np.testing.assert_array_equal(result, decode_jpeg(data))


@pytest.mark.parametrize(("blocked", "expected"), [(["cv2"], "simplejpeg"), (["simplejpeg"], "opencv"), (["simplejpeg", "cv2"], "pillow")])
def test_ladder__steps_down_where_an_import_fails(monkeypatch, blocked, expected):
    """The first decoder that can be imported serves, and gives the same pixels."""
    before = decode_jpeg(KINDS["progressive"])
    monkeypatch.setenv("FFCV_SSL_NATIVE", "0")
    for name in blocked:
        monkeypatch.setitem(sys.modules, name, None)  # makes `import name` an ImportError
    decode._first_rung.cache_clear()
    try:
        assert decoder_name() == expected
        np.testing.assert_array_equal(decode_jpeg(KINDS["progressive"]), before)
        with pytest.raises(ImageError):
            decode_jpeg(make.damaged(KINDS["progressive"])["middle missing"])
    finally:
        decode._first_rung.cache_clear()


@pytest.mark.shared_data
def test_decode__of_real_photos_agrees_on_every_rung(shared_data):
    """All 315 photos decode without a warning; every fourth is compared, and identical, on the three rungs."""
    paths = sorted((shared_data / "photos").glob("*/*.jpg"))
    assert len(paths) == 315
    for index, path in enumerate(paths):
        data = path.read_bytes()
        expected = decode_jpeg(data)
        for decode_with in RUNGS.values() if index % 4 == 0 else ():
            out = np.empty_like(expected)
            decode_with(data, out)
            np.testing.assert_array_equal(out, expected, err_msg=path.name)
