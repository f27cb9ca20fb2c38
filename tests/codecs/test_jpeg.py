"""Headers of JPEGs."""

import io

import numpy as np
import pytest
from PIL import Image

from ffcv_ssl.codecs.jpeg import SUBSAMPLINGS, inspect_jpeg, without_metadata
from ffcv_ssl.codecs.orientation import exif_orientation
from ffcv_ssl.errors import ImageError
from tests.reference import jpeg as make
from tests.reference.images import photo_like

PIXELS = photo_like(43, 61)
BASELINE = make.encode(PIXELS)


def test_inspect__reads_size_and_process():
    """Height and width are not swapped, and the frame's marker determines the coding process."""
    info = inspect_jpeg(BASELINE)
    assert (info.height, info.width, info.num_components, info.precision) == (43, 61, 3, 8)
    assert (info.coding, info.color, info.orientation, info.restart_interval) == (
        "baseline",
        "YCbCr",
        1,
        0,
    )
    assert inspect_jpeg(make.encode(PIXELS, progressive=True)).coding == "progressive"
    assert inspect_jpeg(make.encode(PIXELS, restart_marker_blocks=5)).restart_interval == 5


@pytest.mark.parametrize(
    "buffer", [bytes, bytearray, memoryview, lambda data: np.frombuffer(data, np.uint8)]
)
def test_inspect__takes_any_buffer(buffer):
    """Bytes, memory views and arrays yield the same header."""
    assert inspect_jpeg(buffer(BASELINE)) == inspect_jpeg(BASELINE)


@pytest.mark.parametrize(
    ("marker", "coding"),
    [
        (0xC1, "extended"),
        (0xC3, "lossless"),
        (0xC5, "hierarchical"),
        (0xC9, "arithmetic"),
        (0xCA, "arithmetic"),
        (0xCF, "arithmetic"),
    ],
)
def test_inspect__names_every_coding_process(marker, coding):
    """Each start-of-frame marker is known; only extended sequential files may be kept."""
    info = inspect_jpeg(make.with_frame(BASELINE, marker=marker))
    assert info.coding == coding
    assert (info.needed_change() is None) == (coding == "extended")


def test_inspect__reads_arithmetic_files():
    """A real arithmetic-coded file is recognized and has to change."""
    info = inspect_jpeg(make.ARITHMETIC)
    assert (info.height, info.width, info.coding) == (11, 16, "arithmetic")
    assert info.needed_change() == "arithmetic coding"


def test_inspect__distinguishes_color_spaces():
    """One component is gray, three are YCbCr or marked as RGB, four are CMYK or YCCK."""
    cmyk = make.encode(PIXELS, "CMYK")
    transform = cmyk.index(b"Adobe") + 11
    ycck = cmyk[:transform] + b"\x02" + cmyk[transform + 1 :]
    adobe_rgb = make.encode(PIXELS, keep_rgb=True)
    colors = {
        "gray": make.encode(PIXELS, "L"),
        "YCbCr": BASELINE,
        "RGB": adobe_rgb,
        "CMYK": cmyk,
        "YCCK": ycck,
    }
    for color, data in colors.items():
        info = inspect_jpeg(data)
        assert info.color == color
        assert (info.needed_change() is None) == (color in ("gray", "YCbCr"))


def test_inspect__prefers_jfif_to_adobe():
    """A file with a JFIF marker is YCbCr, even if an Adobe marker contradicts it."""
    adobe = b"Adobe" + bytes(7)
    without_jfif = BASELINE[:2] + BASELINE[20:]
    assert inspect_jpeg(make.with_segment(without_jfif, 0xEE, adobe)).color == "RGB"
    assert inspect_jpeg(make.with_segment(BASELINE, 0xEE, adobe)).color == "YCbCr"


@pytest.mark.parametrize("name", ["4:4:4", "4:2:2", "4:2:0", "4:4:0", "4:1:1"])
def test_inspect__names_chroma_subsampling(name):
    """The five common subsamplings are named and may be kept."""
    info = inspect_jpeg(make.subsampled(PIXELS, name))
    assert info.subsampling == name
    assert info.needed_change() is None


@pytest.mark.parametrize(("factors", "name"), SUBSAMPLINGS.items())
def test_inspect__knows_other_spellings_of_subsampling(factors, name):
    """Equivalent sampling factors have the same name."""
    data, shape = make.grey_of_factors(*factors)
    info = inspect_jpeg(data)
    assert (info.height, info.width) == shape
    assert info.subsampling == name


def test_inspect__rare_sampling_factors_have_to_change():
    """A file with factors that TurboJPEG does not decode is not kept."""
    info = inspect_jpeg(make.grey_of_factors((3, 1), (1, 1))[0])
    assert info.subsampling == "3x1,1x1,1x1"
    assert info.needed_change() == "sampling factors 3x1,1x1,1x1"


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", [3, 4])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation__agrees_with_pillow(orientation, kind, order):
    """The EXIF orientation agrees with Pillow in both byte orders, as SHORT or LONG."""
    data = make.with_orientation(BASELINE, orientation, order=order, kind=kind)
    with Image.open(io.BytesIO(data)) as image:
        assert inspect_jpeg(data).orientation == image.getexif()[0x0112] == orientation
    assert (inspect_jpeg(data).needed_change() is None) == (orientation == 1)
    assert inspect_jpeg(data).upright_shape == ((61, 43) if orientation >= 5 else (43, 61))


def test_orientation__falls_back_to_xmp():
    """The tiff:Orientation of an XMP packet counts unless EXIF has one, as in Pillow."""
    packet = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    xmp = b"http://ns.adobe.com/xap/1.0/\x00" + packet
    data = make.with_segment(BASELINE, 0xE1, xmp)
    with Image.open(io.BytesIO(data)) as image:
        assert inspect_jpeg(data).orientation == image.getexif()[0x0112] == 6
    assert inspect_jpeg(make.with_orientation(data, 3)).orientation == 3


def test_orientation__of_damaged_exif_is_none():
    """Truncated EXIF blocks and values outside 1..8 have no orientation."""
    block = make.exif_block(6)
    assert exif_orientation(block) == 6
    assert all(exif_orientation(block[:length]) is None for length in range(len(block) - 4))
    assert exif_orientation(make.exif_block(6, kind=1)) is None
    assert exif_orientation(make.exif_block(0)) is None
    assert exif_orientation(make.exif_block(9)) is None
    assert exif_orientation(make.exif_block(6, tag=0x0113)) is None


def test_inspect__refuses_what_is_not_a_jpeg():
    """Empty, unrelated and truncated data is an ImageError."""
    scan = BASELINE.index(b"\xff\xda")
    for data in (
        b"",
        b"\xff",
        b"\xff\xd8",
        b"\xff\xd8\xff",
        b"<!DOCTYPE html>",
        b"\x89PNG\r\n\x1a\n",
        bytes(1000),
        BASELINE[:2] + b"\xff\xd9\x00\x02",
    ):
        with pytest.raises(ImageError):
            inspect_jpeg(data)
    for length in range(0, scan + 13):
        with pytest.raises(ImageError):
            inspect_jpeg(BASELINE[:length])


def test_inspect__refuses_impossible_frames():
    """No pixels, two frames and a scan without a frame are ImageErrors that name the fault."""
    with pytest.raises(ImageError, match="61 x 0 pixels"):
        inspect_jpeg(make.with_frame(BASELINE, height=0))
    frame = BASELINE.index(b"\xff\xc0")
    segment = BASELINE[frame : frame + 19]
    with pytest.raises(ImageError, match="two frames"):
        inspect_jpeg(BASELINE[:frame] + segment + BASELINE[frame:])
    with pytest.raises(ImageError, match="without a frame"):
        inspect_jpeg(BASELINE[:frame] + BASELINE[frame + 19 :])
    with pytest.raises(ImageError, match="sampling factors"):
        inspect_jpeg(BASELINE[: frame + 11] + b"\x00" + BASELINE[frame + 12 :])


def test_needed_change__of_twelve_bits():
    """Files of 12 bits per channel have to change."""
    assert (
        inspect_jpeg(make.with_frame(BASELINE, marker=0xC1, precision=12)).needed_change()
        == "12 bits per channel"
    )


def test_needed_change__of_sides_beyond_libjpeg():
    """A file with a side that exceeds libjpeg's limit is not kept."""
    assert inspect_jpeg(make.with_frame(BASELINE, width=65_500)).needed_change() is None
    assert "65,500" in inspect_jpeg(make.with_frame(BASELINE, width=65_501)).needed_change()


def test_inspect__survives_any_single_byte_change():
    """After a change of any byte in the header the result is a header or an ImageError."""
    data = make.with_orientation(BASELINE, 6)
    rng = np.random.default_rng(0)
    for position in range(2, data.index(b"\xff\xda") + 14):
        changed = bytearray(data)
        changed[position] = int(rng.integers(256))
        try:
            inspect_jpeg(changed)
        except ImageError:
            continue


def test_without_metadata__keeps_what_determines_the_pixels():
    """EXIF, profiles, comments and previews are removed; all other segments stay."""
    extras = make.encode(PIXELS, icc_profile=bytes(3000), comment=b"hello")
    for data in (make.with_orientation(extras, 6), make.with_segment(extras, 0xE2, b"MPF\x00")):
        assert without_metadata(data) == BASELINE
    cmyk = make.encode(PIXELS, "CMYK")
    assert without_metadata(cmyk) == cmyk


@pytest.mark.shared_data
def test_inspect__of_real_photos(shared_data):
    """All 315 photos may be kept; 22 are progressive, one is gray."""
    infos = [inspect_jpeg(path.read_bytes()) for path in (shared_data / "photos").glob("*/*.jpg")]
    assert len(infos) == 315
    assert sum(info.coding == "progressive" for info in infos) == 22
    assert sum(info.color == "gray" for info in infos) == 1
    assert {info.needed_change() for info in infos} == {None}
