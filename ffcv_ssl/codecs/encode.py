"""JPEG encoding and resizing for the writer.

Both use Pillow, so that the bytes of a file do not depend on which decoder is installed.
"""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ffcv_ssl.codecs.limits import JPEG_MAX_SIDE
from ffcv_ssl.errors import ImageError

RESAMPLES = ("bilinear", "area")


def encode_jpeg(image: NDArray[np.uint8], quality: int) -> bytes:
    """Encode an image as baseline JPEG, chroma 4:2:0, with one restart marker per row of MCUs.

    The markers add 0.1 % to the size. They allow a reader to decode only the rows that it needs.

    Parameters
    ----------
    image
        (H, W, 3) uint8, RGB.
    quality
        1 to 100, on libjpeg's scale.

    Returns
    -------
    bytes
        The JPEG file.

    Raises
    ------
    ImageError
        If a side exceeds 65,500 pixels, libjpeg's limit.

    Examples
    --------
    >>> from ffcv_ssl.codecs.jpeg import inspect_jpeg
    >>> info = inspect_jpeg(encode_jpeg(np.zeros((20, 30, 3), np.uint8), quality=90))
    >>> info.height, info.width, info.subsampling
    (20, 30, '4:2:0')
    """
    height, width = image.shape[:2]
    if max(height, width) > JPEG_MAX_SIDE:
        raise ImageError(
            f"{width} x {height} pixels: the sides of a JPEG are at most {JPEG_MAX_SIDE:,}; "
            "give max_resolution, or store it raw."
        )
    buffer = io.BytesIO()
    options = {"quality": quality, "subsampling": "4:2:0", "restart_marker_rows": 1}
    Image.fromarray(image).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def resized_shape(height: int, width: int, max_resolution: int | None) -> tuple[int, int]:
    """Compute the size of an image whose longest side is reduced to `max_resolution`.

    The arithmetic is FFCV's, so that both packages store images of the same size: one float64
    ratio, both sides truncated, at least 1 pixel. In one case of ten the longest side is therefore
    one pixel shorter than `max_resolution`.

    Parameters
    ----------
    height, width
        Size of the image in pixels.
    max_resolution
        Largest side in pixels, >= 1; None keeps every size.

    Returns
    -------
    tuple of int
        Height and width in pixels. An image within the limit keeps its size.

    Examples
    --------
    >>> resized_shape(375, 500, max_resolution=256)
    (192, 256)
    """
    if max_resolution is None or max(height, width) <= max_resolution:
        return height, width
    ratio = max_resolution / max(height, width)
    return max(1, int(ratio * height)), max(1, int(ratio * width))


def resize(
    image: NDArray[np.uint8], max_resolution: int | None, resample: str = "bilinear"
) -> NDArray[np.uint8]:
    """Shrink an image so that its longest side is at most `max_resolution`.

    Parameters
    ----------
    image
        (H, W, 3) uint8, RGB.
    max_resolution
        Largest side in pixels, >= 1; None keeps every size.
    resample
        "bilinear": Pillow's antialiased filter. "area": OpenCV's INTER_AREA, which FFCV uses.

    Returns
    -------
    np.ndarray
        (H, W, 3) uint8; `image` itself if it is within the limit.

    Raises
    ------
    ImageError
        If `resample` is "area" and OpenCV cannot be imported.
    """
    height, width = resized_shape(image.shape[0], image.shape[1], max_resolution)
    if (height, width) == image.shape[:2]:
        return image
    if resample == "area":
        try:
            import cv2
        except ImportError as error:
            raise ImageError(
                f"resample='area' needs OpenCV ({error}); pip install opencv-python, "
                "or use resample='bilinear'."
            ) from error
        return np.asarray(
            cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), np.uint8
        )
    shrunk = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(shrunk)
