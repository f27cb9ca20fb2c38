"""How large an image may be: the bounds of the formats, and one limit against decompression bombs."""

import os

from PIL import Image

from ffcv_ssl.errors import ConfigError, ImageError

MAX_SIDE = 65_535  # of a .beton record (uint16)
JPEG_MAX_SIDE = 65_500  # libjpeg's JPEG_MAX_DIMENSION
VARIABLE = "FFCV_SSL_MAX_PIXELS"
DEFAULT_MAX_PIXELS = 178_956_970  # Pillow refuses larger images; 3 bytes per pixel make this 0.5 GB


def max_pixels() -> int:
    """Return the most pixels that an image may have, in every format, for writing and reading.

    The environment variable `FFCV_SSL_MAX_PIXELS` sets it.

    Raises
    ------
    ConfigError
        If the variable is not a positive integer.
    """
    text = os.environ.get(VARIABLE)
    if text is None:
        return DEFAULT_MAX_PIXELS
    if not text.isdecimal() or int(text) < 1:
        raise ConfigError(f"{VARIABLE} is a number of pixels, at least 1; got {text!r}.")
    if Image.MAX_IMAGE_PIXELS is not None and int(text) > 2 * Image.MAX_IMAGE_PIXELS:
        Image.MAX_IMAGE_PIXELS = -(-int(text) // 2)  # Pillow refuses twice that
    return int(text)


def check_pixels(width: int, height: int) -> None:
    """Refuse an image whose header promises more pixels than `max_pixels`.

    Raises
    ------
    ImageError
        If the image is larger.
    """
    if width * height > max_pixels():
        raise too_large(f"{width} x {height} is {width * height:,}")


def too_large(size: str) -> ImageError:
    """Return the error for an image whose size is said in words."""
    return ImageError(
        f"{size} pixels; the limit against decompression bombs is {max_pixels():,}. If the image is meant to be "
        f"that large, set the environment variable {VARIABLE}."
    )
