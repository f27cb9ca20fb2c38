"""The one JPEG encoder and the one resize of the writer: Pillow, so that bytes do not depend on what else is installed."""

import io

import numpy as np
from PIL import Image

from ffcv_ssl.codecs.limits import JPEG_MAX_SIDE
from ffcv_ssl.errors import ImageError

RESAMPLES = ("bilinear", "area")


def encode_jpeg(image: np.ndarray, quality: int) -> bytes:
    """Encode an image as baseline JPEG, chroma 4:2:0, with one restart marker per row of MCUs.

    The markers cost 0.1 % of the bytes and let a reader cut the rows it needs out of the file.

    Parameters
    ----------
    image
        (H, W, 3) uint8, RGB.
    quality
        1 to 100, on libjpeg's scale.

    Raises
    ------
    ImageError
        If a side is longer than the 65,500 pixels that libjpeg writes.
    """
    height, width = image.shape[:2]
    if max(height, width) > JPEG_MAX_SIDE:
        raise ImageError(
            f"{width} x {height} pixels: the sides of a JPEG are at most {JPEG_MAX_SIDE:,}; give max_resolution, or store it raw."
        )
    buffer = io.BytesIO()
    Image.fromarray(image).save(
        buffer, "JPEG", quality=quality, subsampling="4:2:0", restart_marker_rows=1
    )
    return buffer.getvalue()


def resized_shape(height: int, width: int, max_resolution: int | None) -> tuple[int, int]:
    """Height and width after the longest side was brought down to `max_resolution` pixels.

    FFCV's arithmetic, so that both store images of the same size: one float64 ratio, sides truncated (in one case of ten the longest
    side comes out a pixel short, as there), and at least 1.
    """
    if max_resolution is None or max(height, width) <= max_resolution:
        return height, width
    ratio = max_resolution / max(height, width)
    return max(1, int(ratio * height)), max(1, int(ratio * width))


def resize(image: np.ndarray, max_resolution: int | None, resample: str = "bilinear") -> np.ndarray:
    """Shrink an image until its longest side is at most `max_resolution`; smaller images stay as they are.

    Parameters
    ----------
    image
        (H, W, 3) uint8, RGB.
    max_resolution
        In pixels; None keeps every image.
    resample
        "bilinear": Pillow's, antialiased. "area": OpenCV's INTER_AREA, as FFCV resizes.

    Raises
    ------
    ImageError
        If "area" is asked for and OpenCV cannot be imported.
    """
    height, width = resized_shape(image.shape[0], image.shape[1], max_resolution)
    if (height, width) == image.shape[:2]:
        return image
    if resample == "area":
        try:
            import cv2
        except ImportError as error:
            raise ImageError(
                f"resample='area' needs OpenCV ({error}); pip install opencv-python, or use resample='bilinear'."
            ) from error
        return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))
