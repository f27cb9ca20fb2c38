"""Limits on the size of an image: those of the formats, and one against decompression bombs."""

import os

from PIL import Image

from ffcv_ssl.errors import ConfigError, ImageError

MAX_SIDE = 65_535  # of a .beton record (uint16)
JPEG_MAX_SIDE = 65_500  # libjpeg's JPEG_MAX_DIMENSION
VARIABLE = "FFCV_SSL_MAX_PIXELS"
DEFAULT_MAX_PIXELS = 178_956_970  # as Pillow's limit; 0.5 GB at 3 bytes per pixel


def max_pixels() -> int:
    """Return the largest number of pixels that an image may have, when written or read.

    It applies to all formats. The environment variable `FFCV_SSL_MAX_PIXELS` sets it. Pillow's own
    limit is raised if it is lower.

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
        Image.MAX_IMAGE_PIXELS = -(-int(text) // 2)  # Pillow raises an error at twice this number
    return int(text)


def check_pixels(width: int, height: int) -> None:
    """Raise an error if an image has more pixels than `max_pixels` allows.

    Parameters
    ----------
    width, height
        Size in pixels, from the image's header.

    Raises
    ------
    ImageError
        If the image is larger than the limit.
    ConfigError
        If the limit is not a positive integer.
    """
    if width * height > max_pixels():
        raise too_large(f"{width} x {height} is {width * height:,}")


def too_large(num_pixels: str) -> ImageError:
    """Return the error for an image over the limit; `num_pixels` is the number as text."""
    return ImageError(
        f"{num_pixels} pixels; the limit against decompression bombs is {max_pixels():,}. "
        f"If the image is meant to be that large, set the environment variable {VARIABLE}."
    )
