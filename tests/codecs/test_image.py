"""Conversion of images of any kind to RGB."""

import io
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms, ImageOps

from ffcv_ssl.codecs.image import load_rgb
from ffcv_ssl.errors import ImageError
from tests.reference import jpeg as make
from tests.reference.decoders import decode_with_pillow
from tests.reference.images import coordinates, photo_like

PIXELS = coordinates(13, 22)
GRAY = PIXELS[:, :, 0]
RGB = Image.fromarray(PIXELS)


def file_of(image, form, **options):
    """Return the bytes of a PIL image in a file format."""
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def png_16_bit(color_type, samples):
    """Return a PNG of 16 bits per channel, which Pillow cannot write in color.

    `samples` is (H, W, channels) uint16.
    """
    height, width = samples.shape[:2]
    rows = b"".join(b"\x00" + row.astype(">u2").tobytes() for row in samples)

    def chunk(name, body):
        return (
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        )

    header = struct.pack(">IIBBBBB", width, height, 16, color_type, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


LOSSLESS = {
    "PNG": file_of(RGB, "PNG"),
    "BMP": file_of(RGB, "BMP"),
    "TIFF": file_of(RGB, "TIFF"),
    "PPM": file_of(RGB, "PPM"),
    "WebP": file_of(RGB, "WEBP", lossless=True),
    "JPEG 2000": file_of(RGB, "JPEG2000", irreversible=False),
    "LZW TIFF": file_of(RGB, "TIFF", compression="tiff_lzw"),
}


@pytest.mark.parametrize("name", LOSSLESS)
def test_load__reads_file_formats(name, tmp_path):
    """The bytes of a file, its path and its opened image all yield the original pixels."""
    path = tmp_path / "image of any name.jpg"
    path.write_bytes(LOSSLESS[name])
    with Image.open(path) as opened:
        for value in (
            LOSSLESS[name],
            bytearray(LOSSLESS[name]),
            memoryview(LOSSLESS[name]),
            path,
            str(path),
            opened,
        ):
            loaded = load_rgb(value)
            assert loaded.dtype == np.uint8
            assert loaded.flags.c_contiguous
            np.testing.assert_array_equal(loaded, PIXELS)


def test_load__reads_a_jpeg_whatever_its_name(tmp_path):
    """A JPEG named .png is read as a JPEG."""
    data = make.encode(PIXELS)
    (tmp_path / "photo.png").write_bytes(data)
    np.testing.assert_array_equal(load_rgb(tmp_path / "photo.png"), load_rgb(data))


def test_load__takes_the_first_frame():
    """An animation yields its first frame."""
    frames = [Image.new("P", (5, 4), color) for color in (0, 1, 2)]
    for frame in frames:
        frame.putpalette([10, 20, 30, 200, 0, 0, 0, 200, 0])
    data = file_of(frames[0], "GIF", save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(load_rgb(data), np.full((4, 5, 3), (10, 20, 30)))


def test_load__gray_images_have_three_equal_channels():
    """Modes 1, L and LA repeat their level; alpha is dropped."""
    expected = np.repeat(GRAY[:, :, None], 3, axis=2)
    gray = Image.fromarray(GRAY)
    alpha = gray.copy()
    alpha.putalpha(Image.fromarray(255 - GRAY))
    for value in (
        gray,
        file_of(gray, "PNG"),
        alpha,
        file_of(alpha, "PNG"),
        GRAY,
        GRAY[:, :, None],
        file_of(gray, "PNG", transparency=7),
    ):
        np.testing.assert_array_equal(load_rgb(value), expected)
    black_and_white = Image.fromarray(GRAY > 127)
    assert black_and_white.mode == "1"
    np.testing.assert_array_equal(
        load_rgb(file_of(black_and_white, "PNG")), np.where(expected > 127, 255, 0)
    )


def test_load__transparency_is_dropped_not_blended():
    """RGBA keeps the stored colors, even of transparent pixels."""
    image = np.dstack([PIXELS, np.zeros_like(GRAY)])
    for value in (Image.fromarray(image), file_of(Image.fromarray(image), "PNG"), image):
        np.testing.assert_array_equal(load_rgb(value), PIXELS)


@pytest.mark.parametrize(
    "transparency", [None, 3, bytes([0, 128, 255])], ids=["opaque", "one index", "levels"]
)
def test_load__palettes_yield_their_colors(transparency):
    """Palette images yield the palette's colors, without Pillow's warning about transparency."""
    image = RGB.quantize(8)
    options = {} if transparency is None else {"transparency": transparency}
    np.testing.assert_array_equal(
        load_rgb(file_of(image, "PNG", **options)), np.asarray(image.convert("RGB"))
    )
    np.testing.assert_array_equal(load_rgb(image), np.asarray(image.convert("RGB")))


def test_load__cmyk_is_converted():
    """CMYK and YCCK JPEGs, whose levels Adobe inverts, yield nearly the original colors."""
    pixels = np.full((16, 16, 3), (200, 120, 40), np.uint8)
    cmyk = make.encode(pixels, "CMYK", quality=95)
    assert np.abs(load_rgb(cmyk).astype(int) - pixels).max() <= 6
    assert np.abs(load_rgb(Image.fromarray(pixels).convert("CMYK")).astype(int) - pixels).max() <= 1
    adobe = cmyk.index(b"Adobe") + 11
    assert load_rgb(cmyk[:adobe] + b"\x02" + cmyk[adobe + 1 :]).shape == (16, 16, 3)


def test_load__sixteen_bit_color_keeps_the_upper_bits():
    """16-bit RGB and RGBA PNGs yield the upper 8 bits of each channel."""
    samples = np.random.default_rng(0).integers(0, 1 << 16, (6, 9, 4)).astype(np.uint16)
    np.testing.assert_array_equal(
        load_rgb(png_16_bit(2, samples[:, :, :3])), samples[:, :, :3] >> 8
    )
    np.testing.assert_array_equal(load_rgb(png_16_bit(6, samples)), samples[:, :, :3] >> 8)


def test_load__ignores_color_profiles():
    """An ICC profile does not change the pixels."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    np.testing.assert_array_equal(
        load_rgb(make.encode(PIXELS, icc_profile=profile)), load_rgb(make.encode(PIXELS))
    )


@pytest.mark.parametrize("mode", ["I", "I;16", "F", "LAB", "La", "RGBa"])
def test_load__refuses_other_modes_by_name(mode):
    """Modes without a defined conversion are errors, as PIL image and as file."""
    image = Image.new(mode, (3, 2))
    with pytest.raises(ImageError, match=f"mode '{mode}' is not supported"):
        load_rgb(image)
    if mode not in ("La", "RGBa"):
        with pytest.raises(ImageError, match=r"image of .* bytes: mode '.*' is not supported"):
            load_rgb(file_of(image, "TIFF"))


def test_load__refuses_sixteen_bit_gray():
    """A 16-bit gray PNG, whose level of white is unknown, is an error that names the mode."""
    with pytest.raises(ImageError, match="I;16"):
        load_rgb(png_16_bit(0, np.zeros((3, 4, 1), np.uint16)))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_load__applies_orientation(orientation, form):
    """All eight EXIF orientations agree with Pillow's exif_transpose in every format."""
    image = Image.fromarray(photo_like(21, 34))
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"WEBP": {"lossless": True}, "JPEG": {"quality": 90}}.get(form, {})
    data = file_of(image, form, exif=exif.tobytes(), **options)
    with Image.open(io.BytesIO(data)) as opened:
        expected = np.asarray(ImageOps.exif_transpose(opened))
    assert expected.shape == ((34, 21, 3) if orientation >= 5 else (21, 34, 3))
    np.testing.assert_array_equal(load_rgb(data), expected)
    with Image.open(io.BytesIO(data)) as opened:
        np.testing.assert_array_equal(load_rgb(opened), expected)


def test_load__ignores_damaged_exif():
    """An image whose EXIF block cannot be parsed is loaded unchanged."""
    plain = load_rgb(make.encode(PIXELS))
    for block in (b"", b"MM", b"II*\x00\xff\xff\xff\xff", make.exif_block(99), b"\xff" * 40):
        data = make.with_segment(make.encode(PIXELS), 0xE1, b"Exif\x00\x00" + block)
        np.testing.assert_array_equal(load_rgb(data), plain)
        out = np.empty_like(plain)
        decode_with_pillow(data, out)
        np.testing.assert_array_equal(out, plain)


@pytest.mark.parametrize(
    "layout",
    [
        lambda a: a,
        np.asfortranarray,
        lambda a: a[::-1][::-1],
        lambda a: a[:, ::-1][:, ::-1],
        lambda a: np.dstack([a, a])[:, :, :3],
    ],
    ids=["plain", "Fortran", "negative rows", "negative columns", "strided"],
)
def test_load__takes_arrays_of_any_layout(layout):
    """Any strides, including negative ones, and read-only memory are accepted."""
    image = layout(PIXELS.copy())
    image.flags.writeable = False
    loaded = load_rgb(image)
    assert loaded.flags.c_contiguous
    np.testing.assert_array_equal(loaded, PIXELS)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (PIXELS / 255, "float64"),
        (PIXELS.astype(np.float32), "float32"),
        (PIXELS.astype(np.uint16), "uint16"),
        (PIXELS.astype(">i4"), ">i4|int32"),
        (GRAY > 3, "bool"),
        (PIXELS.transpose(2, 0, 1), "channels come last"),
        (PIXELS[:, :, :2], r"\(13, 22, 2\)"),
        (PIXELS[None], r"\(1, 13, 22, 3\)"),
        (PIXELS.reshape(-1), r"\(858,\)"),
        (PIXELS[:0], "no pixels"),
        (np.array([object()]), "object"),
    ],
)
def test_load__refuses_other_arrays_by_name(array, message):
    """Other dtypes and shapes are errors that name them."""
    with pytest.raises(ImageError, match=message):
        load_rgb(array)


def test_load__takes_tensors_of_either_layout():
    """The channels of a uint8 tensor come first or last; ambiguous shapes are errors."""
    first = torch.from_numpy(PIXELS.transpose(2, 0, 1).copy())
    for tensor in (first, first.permute(1, 2, 0), torch.from_numpy(PIXELS)):
        np.testing.assert_array_equal(load_rgb(tensor), PIXELS)
    np.testing.assert_array_equal(load_rgb(torch.from_numpy(GRAY.copy()))[:, :, 1], GRAY)
    np.testing.assert_array_equal(load_rgb(torch.from_numpy(GRAY[None].copy()))[:, :, 2], GRAY)
    with pytest.raises(ImageError, match="channels first and channels last"):
        load_rgb(torch.zeros(3, 5, 3, dtype=torch.uint8))
    with pytest.raises(ImageError, match="float32"):
        load_rgb(torch.rand(3, 5, 7, requires_grad=True))


@pytest.mark.parametrize("value", [None, 3, [1, 2], {"image": 1}, object()], ids=repr)
def test_load__refuses_other_values(value):
    """Other objects are errors that name their type."""
    with pytest.raises(ImageError, match=type(value).__name__):
        load_rgb(value)


CORRUPT = {
    "empty": b"",
    "html": b"<!DOCTYPE html><html><body>404</body></html>",
    "zeros": bytes(5000),
    "jpeg marker alone": b"\xff\xd8\xff",
    "half a jpeg": make.encode(photo_like(40, 50))[:900],
    "half a png": LOSSLESS["PNG"][: len(LOSSLESS["PNG"]) // 2],
    "half a webp": LOSSLESS["WebP"][:100],
    "png header alone": LOSSLESS["PNG"][:30],
    "gif header alone": b"GIF89a",
    "tiff header alone": LOSSLESS["TIFF"][:12],
    "12-bit jpeg": make.with_frame(make.encode(PIXELS), marker=0xC1, precision=12),
    "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
}


@pytest.mark.parametrize("name", CORRUPT)
def test_load__refuses_corrupt_files_naming_the_path(name, tmp_path):
    """A file that does not decode is an ImageError whose message starts with the path."""
    path = tmp_path / "fôto.jpg"
    path.write_bytes(CORRUPT[name])
    with pytest.raises(ImageError, match=r"fôto\.jpg: "):
        load_rgb(path)
    with pytest.raises(ImageError, match=r"^image of [\d,]+ bytes: "):
        load_rgb(CORRUPT[name])


def test_load__refuses_files_it_cannot_read(tmp_path):
    """A missing file and a folder are ImageErrors with the path."""
    for path in (tmp_path / "absent.jpg", tmp_path):
        with pytest.raises(ImageError, match=str(path)):
            load_rgb(path)


def test_load__accepts_what_libjpeg_repairs():
    """A damaged file that libjpeg only warns about loads in its full size."""
    assert load_rgb(
        make.damaged(make.encode(photo_like(83, 117)))["garbage in the middle"]
    ).shape == (83, 117, 3)


def test_load__decodes_arithmetic_coding():
    """Arithmetic-coded JPEGs are decoded."""
    assert load_rgb(make.ARITHMETIC).shape == (11, 16, 3)


def test_load__refuses_decompression_bombs():
    """Headers of 30,000 × 30,000 pixels are errors before memory is allocated."""
    jpeg = make.with_frame(make.encode(PIXELS), height=30_000, width=30_000)
    png = bytearray(LOSSLESS["PNG"])
    png[16:24] = struct.pack(">II", 30_000, 30_000)
    png[29:33] = struct.pack(">I", zlib.crc32(png[12:29]))
    for bomb in (jpeg, bytes(png)):
        with pytest.raises(ImageError, match="bomb"):
            load_rgb(bomb)


@pytest.mark.parametrize(
    "shape", [(1, 1), (1, 9), (9, 1), (2, 40), (3, 3), (1, 65_535), (70_000, 1)]
)
def test_load__keeps_any_shape(shape):
    """Sides from 1 pixel to more than a .beton file can hold are loaded."""
    pixels = np.arange(shape[0] * shape[1] * 3, dtype=np.uint8).reshape(*shape, 3)
    np.testing.assert_array_equal(load_rgb(file_of(Image.fromarray(pixels), "PNG")), pixels)


def test_codecs__import_no_torch_numba_or_opencv():
    """Loading, encoding and decoding of images do not import torch, Numba or OpenCV."""
    program = (
        "import sys, numpy as np; from ffcv_ssl.codecs.image import load_rgb; "
        "from ffcv_ssl.codecs.encode import encode_jpeg; "
        "from ffcv_ssl.codecs.decode import decode_jpeg; "
        "decode_jpeg(encode_jpeg(load_rgb(np.zeros((4, 5), np.uint8)), 90)); "
        "print(sorted({'torch', 'numba', 'cv2'} & set(sys.modules)))"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True
        ).stdout.strip()
        == "[]"
    )
