import itertools
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import numpy as np
import pytest

from ffcv_ssl.codecs import decode, native
from ffcv_ssl.codecs.decode import decode_box, decode_jpeg, decoder_name, rungs
from ffcv_ssl.codecs.jpeg import SUBSAMPLINGS
from ffcv_ssl.errors import ConfigError, ImageError
from tests.reference import jpeg as make
from tests.reference.boxes import boxes, inside
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

    def decode_with(data, shape=PIXELS.shape, box=None):
        out = np.full(shape, 77, np.uint8)
        RUNGS[request.param](data, out, box)
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
    reference = (
        PIXELS
        if "grey" not in kind
        else np.repeat((PIXELS @ [0.299, 0.587, 0.114])[..., None], 3, axis=2)
    )
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


@pytest.mark.parametrize(
    "data",
    [b"", b"\xff\xd8", bytes(500), b"<!DOCTYPE html><html></html>"],
    ids=["empty", "start", "zeros", "html"],
)
def test_decode__refuses_what_is_no_jpeg(rung, data):
    """Foreign bytes are an ImageError on every rung."""
    with pytest.raises(ImageError):
        rung(data)


@pytest.mark.parametrize(
    "shape", [(117, 83, 3), (84, 117, 3), (82, 117, 3), (10, 10, 3), (200, 200, 3)]
)
def test_decode__refuses_an_image_of_another_size(rung, shape):
    """An image that does not fill `out` exactly is an ImageError, larger, smaller or turned."""
    with pytest.raises(ImageError):
        rung(KINDS["4:2:0"], shape)


def test_decode__writes_in_place():
    """`out` is what is returned, and bytes may come in any buffer."""
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
    ids=["dtype", "grey", "four channels", "order"],
)
def test_decode__refuses_another_kind_of_buffer(out):
    """`out` is C-contiguous (H, W, 3) uint8."""
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
def test_box__equals_the_full_decode_on_every_rung(kind):
    """Every subsampling × every rung: inside the box the pixels of a full decode by any rung, whatever `out` held before."""
    expected = decode_jpeg(BOX_KINDS[kind])
    for name, decode_with in RUNGS.items():
        for sentinel, box in zip(itertools.cycle((77, 178)), boxes(83, 117, count=12)):
            out = np.full(PIXELS.shape, sentinel, np.uint8)
            decode_with(BOX_KINDS[kind], out, box)
            np.testing.assert_array_equal(
                inside(out, box), inside(expected, box), err_msg=f"{name}, {box}"
            )


@pytest.mark.parametrize("kind", ["4:2:0", "progressive", "restarts"])
def test_box__of_damaged_files_never_shows_other_pixels(kind):
    """A box of a damaged file is an error, or, where the damage was cut away, it has the pixels of the sound file."""
    expected = decode_jpeg(KINDS[kind])
    decoded = set()
    for damage, data in make.damaged(KINDS[kind]).items():
        if (kind, damage) == ("restarts", "garbage in the middle"):
            continue
        for name, decode_with in RUNGS.items():
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


def test_box__damage_in_its_rows_is_an_error(rung):
    """A byte too few in a row of MCUs that the box needs is an error on every rung, also where the row is cut out of the file."""
    data = KINDS["restarts"]
    places = [
        i
        for i in range(data.index(b"\xff\xda"), len(data) - 1)
        if data[i] == 0xFF and 0xD0 <= data[i + 1] <= 0xD7
    ]
    for removed in (1, 2, 9):
        damaged = (
            data[: places[4] - removed] + data[places[4] :]
        )  # the fifth of six rows: lines 64 to 79
        with pytest.raises(ImageError):
            rung(damaged, box=(66, 0, 4, 117))


@pytest.mark.parametrize(
    "box", [(-1, 0, 2, 2), (0, -1, 2, 2), (0, 0, 0, 5), (0, 0, 5, 0), (80, 0, 4, 4), (0, 115, 4, 4)]
)
def test_box__lies_in_its_image(box):
    """A box that is empty or reaches out of the image is refused before anything is decoded."""
    out = np.full(PIXELS.shape, 77, np.uint8)
    with pytest.raises(ImageError, match="reaches out of an image"):
        decode_box(KINDS["4:2:0"], out, box)
    assert (out == 77).all()


def test_box__is_decoded_by_the_first_rung():
    """`decode_box` fills the box of `out` and refuses buffers as `decode_jpeg` does."""
    out = np.zeros(PIXELS.shape, np.uint8)
    decode_box(bytearray(KINDS["restarts"]), out, (50, 10, 20, 30))
    np.testing.assert_array_equal(out[50:70, 10:40], decode_jpeg(KINDS["restarts"])[50:70, 10:40])
    with pytest.raises(ImageError, match="C-contiguous"):
        decode_box(KINDS["restarts"], out.astype(np.int16), (50, 10, 20, 30))


@pytest.fixture
def fresh_ladder(monkeypatch):
    """The rung is chosen anew, in the test and after it."""
    monkeypatch.delenv("FFCV_SSL_DECODER", raising=False)
    decode._first_rung.cache_clear()
    yield
    decode._first_rung.cache_clear()


@pytest.mark.usefixtures("fresh_ladder")
@pytest.mark.parametrize("name", ["simplejpeg", "opencv", "pillow"])
def test_ladder__starts_where_the_environment_says(monkeypatch, name):
    """`FFCV_SSL_DECODER` names the rung; then compiled code does not use the native one either."""
    monkeypatch.setenv("FFCV_SSL_DECODER", name)
    assert decoder_name() == name
    assert native.decode_address() == 0


@pytest.mark.usefixtures("fresh_ladder")
def test_ladder__refuses_what_is_not_there(monkeypatch):
    """An unknown decoder, and one that cannot be imported, are errors that say so, and not those of an image."""
    monkeypatch.setenv("FFCV_SSL_DECODER", "fast")
    with pytest.raises(
        ConfigError,
        match=r"FFCV_SSL_DECODER is one of native, simplejpeg, opencv, pillow, got 'fast'",
    ):
        decode_jpeg(KINDS["4:2:0"])
    monkeypatch.setenv("FFCV_SSL_DECODER", "opencv")
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(ConfigError, match="FFCV_SSL_DECODER=opencv: import of cv2"):
        decoder_name()
    monkeypatch.setenv("FFCV_SSL_DECODER", "native")
    monkeypatch.setattr(native, "_native", None)
    monkeypatch.setattr(native, "_absence", "not built", raising=False)
    with pytest.raises(ConfigError, match="FFCV_SSL_DECODER=native: the native decoder is"):
        decoder_name()


def test_decode__refuses_promises_of_too_many_pixels():
    """A small file whose header promises 4 gigapixels is refused before memory is taken."""
    with pytest.raises(ImageError, match="decompression bombs"):
        decode_jpeg(make.with_frame(KINDS["4:2:0"], height=65_500, width=65_500))


def test_decode__runs_in_many_threads():
    """Concurrent decodes into buffers of their own give what one gives."""
    kinds = list(KINDS.values()) * 8
    with ThreadPoolExecutor(4) as pool:
        results = list(
            pool.map(lambda data: decode_jpeg(data, np.empty(PIXELS.shape, np.uint8)), kinds)
        )
    for data, result in zip(kinds, results, strict=True):
        np.testing.assert_array_equal(result, decode_jpeg(data))


@pytest.mark.parametrize(
    ("blocked", "expected"),
    [(["cv2"], "simplejpeg"), (["simplejpeg"], "opencv"), (["simplejpeg", "cv2"], "pillow")],
)
@pytest.mark.usefixtures("fresh_ladder")
def test_ladder__steps_down_where_an_import_fails(monkeypatch, blocked, expected):
    """The first decoder that can be imported serves, and gives the same pixels."""
    before = RUNGS["pillow"], np.empty(PIXELS.shape, np.uint8)
    before[0](KINDS["progressive"], before[1])
    monkeypatch.setenv("FFCV_SSL_NATIVE", "0")
    for name in blocked:
        monkeypatch.setitem(sys.modules, name, None)  # makes `import name` an ImportError
    assert decoder_name() == expected
    np.testing.assert_array_equal(decode_jpeg(KINDS["progressive"]), before[1])
    with pytest.raises(ImageError):
        decode_jpeg(make.damaged(KINDS["progressive"])["middle missing"])


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
