"""Recognition of image formats, and Pillow's plug-ins."""

import io
import sys
import types

import numpy as np
import pytest
from PIL import Image, ImageFile

from ffcv_ssl.codecs import formats
from ffcv_ssl.codecs.formats import HEAD_BYTES, format_of
from ffcv_ssl.codecs.image import load_rgb
from ffcv_ssl.errors import ImageError
from ffcv_ssl.fields import RGBImageField
from tests.reference.images import coordinates

PIXELS = coordinates(13, 22)
HEIC = b"\0\0\0\x1cftypheic\0\0\0\0mif1heicmiaf"


@pytest.mark.parametrize("name", formats.FORMATS)
def test_format_of__recognizes_pillows_formats(name):
    """Each format that Pillow writes is recognized by its first bytes."""
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).save(buffer, name)
    assert format_of(buffer.getvalue()[:HEAD_BYTES]) == name


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (HEIC, "HEIF"),
        (b"\0\0\0\x20ftypmif1\0\0\0\0mif1avifmiaf", "AVIF"),
        (b"\0\0\0\x20ftypmif1\0\0\0\0mif1heicmiaf", "HEIF"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "JXL"),
        (b"P6 12 3\n", "PPM"),
        (b"P5\n# made by hand\n", "PPM"),
        (b"MM\0*\0\0", "TIFF"),
        (b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41", None),
        (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom", None),
        (b"BM, the initials of somebody, in a text", None),
        (b"P6 is a chapter", None),
        (b"RIFF\x24\0\0\0WAVEfmt ", None),
        (b"\0\5\x16\7\0\2\0\0Mac OS X", None),
        (b"", None),
        (b"\xff\xd8", None),
    ],
)
def test_format_of__recognizes_plugin_formats(head, name):
    """Formats of plug-ins are recognized; files that only start alike are not."""
    assert format_of(head) == name


@pytest.fixture
def heif_plugin(monkeypatch):
    """A module `pillow_heif` whose files hold the header, then 13 x 22 pixels of 3 bytes."""

    class ToyHeif(ImageFile.ImageFile):
        format = "HEIF"

        def _open(self):
            self._size, self._mode = (PIXELS.shape[1], PIXELS.shape[0]), "RGB"
            self.tile = [ImageFile._Tile("raw", (0, 0, *self.size), len(HEIC), ("RGB", 0, 1))]

    module = types.ModuleType("pillow_heif")
    module.__spec__ = types.SimpleNamespace(name="pillow_heif")
    module.register_heif_opener = lambda: Image.register_open(
        "HEIF", ToyHeif, lambda head: head[4:12] == b"ftypheic"
    )
    Image.init()
    monkeypatch.setattr(Image, "ID", list(Image.ID))
    monkeypatch.setattr(Image, "OPEN", dict(Image.OPEN))
    monkeypatch.setitem(sys.modules, "pillow_heif", module)
    formats.load_plugin.cache_clear()
    yield module
    formats.load_plugin.cache_clear()


@pytest.fixture
def no_plugins(monkeypatch):
    """No plug-in is installed."""
    monkeypatch.setattr(formats.Plugin, "installed", lambda plugin: False)
    formats.load_plugin.cache_clear()
    yield
    formats.load_plugin.cache_clear()


def test_plugin__is_used_if_installed(heif_plugin, tmp_path):
    """A HEIC image with any extension is read by its plug-in, which adds its extension."""
    (tmp_path / "photo.jpg").write_bytes(HEIC + PIXELS.tobytes())
    np.testing.assert_array_equal(load_rgb(tmp_path / "photo.jpg"), PIXELS)
    encoded = RGBImageField("raw").encode(HEIC + PIXELS.tobytes(), 0)
    assert (encoded.record, encoded.note) == ((1, 22, 13), "raw")
    assert ".heic" in formats.readable_extensions()


def test_plugin__that_is_missing_is_named(no_plugins, tmp_path):
    """Without the plug-in the error names the package to install."""
    (tmp_path / "photo.jpg").write_bytes(HEIC + PIXELS.tobytes())
    with pytest.raises(ImageError, match=r"photo\.jpg: a HEIF image.* pip install pillow-heif$"):
        load_rgb(tmp_path / "photo.jpg")
    with pytest.raises(ImageError, match="pip install pillow-jxl-plugin"):
        load_rgb(b"\xff\x0a" + bytes(40))
    assert formats.readable_extensions() == formats.EXTENSIONS


def test_plugin__that_does_not_load_is_named(heif_plugin):
    """A plug-in that fails to load is an ImageError with the reason."""
    heif_plugin.register_heif_opener = lambda: 1 / 0
    with pytest.raises(
        ImageError, match="pillow-heif is installed but does not load: division by zero"
    ):
        load_rgb(HEIC + PIXELS.tobytes())


def test_plugin__reads_real_files(tmp_path):
    """pillow-heif, if installed, reads a gray ramp within the loss of the format."""
    pillow_heif = pytest.importorskip("pillow_heif")
    pillow_heif.register_heif_opener()
    ramp = np.repeat(np.linspace(0, 255, 64, dtype=np.uint8)[:, None, None], 48, axis=1).repeat(
        3, axis=2
    )
    Image.fromarray(ramp).save(tmp_path / "ramp.heic", "HEIF", quality=95)
    found = load_rgb(tmp_path / "ramp.heic")
    assert found.shape == ramp.shape
    assert np.abs(found.astype(int) - ramp).max() <= 8
