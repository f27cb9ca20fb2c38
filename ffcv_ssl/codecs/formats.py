"""Recognize image files by extension and by their first bytes, and load Pillow's plug-ins."""

from __future__ import annotations

import importlib
import importlib.util
import re
from dataclasses import dataclass
from functools import cache

from ffcv_ssl.errors import ImageError

# Pillow's names. Other formats may start programs (EPS).
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF")
EXTENSIONS = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"}
    | {".ppm", ".pgm", ".pbm", ".jp2", ".avif"}
)
HEAD_BYTES = 32  # bytes that `format_of` examines


@dataclass(frozen=True)
class Plugin:
    """A package that adds a format to Pillow.

    Parameters
    ----------
    module
        Name of the module to import.
    package
        Name of the package to install.
    format
        Pillow's name of the format.
    register
        Function of the module that registers the format; None if importing the module does.
    """

    module: str
    package: str
    format: str
    register: str | None = None

    def installed(self) -> bool:
        """Return whether the module can be found; it is not imported."""
        return importlib.util.find_spec(self.module) is not None

    def load(self) -> None:
        """Import the module and register its format.

        Raises
        ------
        ImageError
            If the module raises an error.
        """
        try:
            module = importlib.import_module(self.module)
            if self.register is not None:
                getattr(module, self.register)()
        except Exception as error:  # a third-party package may raise anything
            raise ImageError(f"{self.package} is installed but does not load: {error}") from error


HEIF = Plugin("pillow_heif", "pillow-heif", "HEIF", "register_heif_opener")
JPEG_XL = Plugin("pillow_jxl", "pillow-jxl-plugin", "JXL")
PLUGINS = {".heic": HEIF, ".heif": HEIF, ".hif": HEIF, ".jxl": JPEG_XL}  # by extension

_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_SIGNATURES = {
    "JPEG": rb"\xff\xd8\xff",
    "PNG": rb"\x89PNG\r\n\x1a\n",
    "WEBP": rb"RIFF....WEBP",
    "GIF": rb"GIF8[79]a",
    "BMP": rb"BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0",  # sizes of the second header
    "JPEG2000": rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51",
    "AVIF": rb"....ftyp(avif|avis|.{8,16}avif)",
    "HEIF": rb"....ftyp(" + b"|".join(_HEIF_BRANDS) + rb")",
    "JXL": rb"\0\0\0\x0cJXL \r\n\x87\n|\xff\x0a",
    "TIFF": rb"II[*+]\0|MM\0[*+]",
    "PPM": rb"P[1-6]\s+(\d|#)",
}
_PATTERNS = {name: re.compile(pattern, re.DOTALL) for name, pattern in _SIGNATURES.items()}


def format_of(head: bytes) -> str | None:
    """Recognize the format of an image file by its first bytes.

    Parameters
    ----------
    head
        The first `HEAD_BYTES` bytes of the file, or the whole file if it is shorter.

    Returns
    -------
    str or None
        Pillow's name of the format, even if its plug-in is not installed. None if it is not an
        image.

    Examples
    --------
    >>> format_of(b"GIF89a")
    'GIF'
    """
    return next((name for name, pattern in _PATTERNS.items() if pattern.match(head)), None)


def plugin_of(image_format: str | None) -> Plugin | None:
    """Return the plug-in that reads a format.

    Parameters
    ----------
    image_format
        Pillow's name of the format, or None.

    Returns
    -------
    Plugin or None
        None if Pillow reads the format by itself.
    """
    return next((plugin for plugin in PLUGINS.values() if plugin.format == image_format), None)


def readable_extensions() -> frozenset[str]:
    """Return the lower-case extensions, with dot, of the formats that can be read here."""
    installed = {extension for extension, plugin in PLUGINS.items() if plugin.installed()}
    return EXTENSIONS | installed


@cache
def load_plugin(image_format: str) -> bool:
    """Load the plug-in that reads a format.

    Parameters
    ----------
    image_format
        Pillow's name of the format.

    Returns
    -------
    bool
        False if the format needs no plug-in, or if its plug-in is not installed.

    Raises
    ------
    ImageError
        If the plug-in is installed but fails to load.
    """
    plugin = plugin_of(image_format)
    if plugin is None or not plugin.installed():
        return False
    plugin.load()
    return True
