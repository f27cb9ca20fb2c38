"""Which files are images: by extension, by their first bytes, and by the plug-ins that are installed."""

from __future__ import annotations

import importlib
import importlib.util
import re
from dataclasses import dataclass
from functools import cache

from ffcv_ssl.errors import ImageError

# Pillow's names; others may start programs (EPS)
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF")
EXTENSIONS = frozenset(
    [
        *(
            ".jpg",
            ".jpeg",
            ".jpe",
            ".jfif",
            ".png",
            ".webp",
            ".gif",
            ".bmp",
            ".tif",
            ".tiff",
            ".ppm",
        ),
        *(".pgm", ".pbm", ".jp2", ".avif"),
    ]
)
HEAD_BYTES = 32  # what `format_of` looks at


@dataclass(frozen=True)
class Plugin:
    """A package that teaches Pillow a format.

    Parameters
    ----------
    module, package
        What is imported, and what is installed.
    format
        Pillow's name.
    register
        Function of the module that tells Pillow; None where importing does.
    """

    module: str
    package: str
    format: str
    register: str | None = None

    def installed(self) -> bool:
        """Whether the module can be found; it is not imported."""
        return importlib.util.find_spec(self.module) is not None

    def load(self) -> None:
        """Import and register it; ImageError if that fails."""
        try:
            module = importlib.import_module(self.module)
            if self.register is not None:
                getattr(module, self.register)()
        except Exception as error:  # whatever a package of others meets when it is loaded
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
    "BMP": rb"BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0",  # with the size of the second header
    "JPEG2000": rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51",
    "AVIF": rb"....ftyp(avif|avis|.{8,16}avif)",
    "HEIF": rb"....ftyp(" + b"|".join(_HEIF_BRANDS) + rb")",
    "JXL": rb"\0\0\0\x0cJXL \r\n\x87\n|\xff\x0a",
    "TIFF": rb"II[*+]\0|MM\0[*+]",
    "PPM": rb"P[1-6]\s+(\d|#)",
}
_PATTERNS = {name: re.compile(pattern, re.DOTALL) for name, pattern in _SIGNATURES.items()}


def format_of(head: bytes) -> str | None:
    """Tell the format of an image file from its first `HEAD_BYTES` bytes.

    Returns
    -------
    str or None
        Pillow's name of the format, whether a plug-in for it is installed or not; None for no image.
    """
    return next((name for name, pattern in _PATTERNS.items() if pattern.match(head)), None)


def plugin_of(image_format: str | None) -> Plugin | None:
    """The plug-in that reads a format, if it takes one."""
    return next((plugin for plugin in PLUGINS.values() if plugin.format == image_format), None)


def readable_extensions() -> frozenset[str]:
    """Extensions of the formats that can be read here, in small letters."""
    return EXTENSIONS | {extension for extension, plugin in PLUGINS.items() if plugin.installed()}


@cache
def load_plugin(image_format: str) -> bool:
    """Load the plug-in for a format; False if the format takes none or it is not installed.

    Raises
    ------
    ImageError
        If it is installed but does not load.
    """
    plugin = plugin_of(image_format)
    if plugin is None or not plugin.installed():
        return False
    plugin.load()
    return True
