"""OpenCV and Pillow as references for the package's JPEG decoders.

Both hide libjpeg's warnings, so `check_integrity` searches the entropy-coded data for damage first.
"""

import io

import cv2
import numpy as np
from PIL import Image

from ffcv_ssl.codecs.decode import available_decoders
from ffcv_ssl.codecs.integrity import without_stray_bytes
from ffcv_ssl.codecs.jpeg import inspect_jpeg, without_metadata
from ffcv_ssl.errors import ImageError

END = b"\xff\xd9"
# libjpeg-turbo 3.1.2 warns about 4 to 7 or more bytes, depending on how far it has read ahead.
STRAY_BYTES = 7


def check_integrity(data):
    """Raise an ImageError if libjpeg would decode the JPEG only with a warning."""
    repaired = without_stray_bytes(data)
    if len(repaired) > len(data) or (repaired.endswith(END) and not data.endswith(END)):
        raise ImageError("corrupt JPEG: premature end of file.")
    if len(data) - len(repaired) >= STRAY_BYTES:
        raise ImageError("corrupt JPEG: extraneous bytes before marker.")


def decode_with_opencv(data, out, box=None):
    """Decode a whole JPEG into `out` with OpenCV; the box is ignored."""
    _check(data, out)
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        decoded = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise ImageError(f"JPEG does not decode: {error}") from error
    if decoded is None:
        raise ImageError("JPEG does not decode; OpenCV gives no reason.")
    cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB, dst=out)


def decode_with_pillow(data, out, box=None):
    """Decode a whole JPEG into `out` with Pillow; the box is ignored."""
    _check(data, out)
    try:
        with Image.open(io.BytesIO(without_metadata(data)), formats=("JPEG",)) as image:
            out[...] = np.asarray(image.convert("RGB"))
    except Exception as error:  # Pillow's parsers raise OSError, SyntaxError, struct.error, …
        raise ImageError(f"JPEG does not decode: {error}") from error


def all_decoders():
    """Decoders by name: those of the package that are available, then the references."""
    return {**dict(available_decoders()), **REFERENCES}


def _check(data, out):
    info = inspect_jpeg(data)
    if (info.height, info.width, 3) != out.shape:
        raise ImageError(f"JPEG of {(info.height, info.width, 3)}, wanted {out.shape}.")
    check_integrity(bytes(data))


REFERENCES = {"opencv": decode_with_opencv, "pillow": decode_with_pillow}
