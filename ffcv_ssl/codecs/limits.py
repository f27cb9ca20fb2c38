"""How large an image may be: the bounds of the formats, and the guard against decompression bombs."""

from PIL import Image

from ffcv_ssl.errors import ImageError

MAX_SIDE = 65_535  # of a .beton record (uint16)
JPEG_MAX_SIDE = 65_500  # libjpeg's JPEG_MAX_DIMENSION


def check_pixels(width: int, height: int) -> None:
    """Refuse an image whose header promises more pixels than Pillow's limit for decompression bombs.

    The limit is twice `PIL.Image.MAX_IMAGE_PIXELS` (179 million by default), as Pillow itself applies it; None lifts it.

    Raises
    ------
    ImageError
        If the image is larger.
    """
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and width * height > 2 * limit:
        raise ImageError(
            f"{width} x {height} is {width * height:,} pixels, the limit against decompression bombs is {2 * limit:,}; "
            "raise PIL.Image.MAX_IMAGE_PIXELS if the image is meant to be that large."
        )
