"""The decoder ladder: the first decoder of JPEG bytes that works on this machine, and every one of them strict.

    1  simplejpeg   a wheel over libjpeg-turbo; without the GIL, into the caller's buffer
    2  OpenCV       where `import cv2` works (it needs libGL)
    3  Pillow       always there

All rungs give libjpeg's pixels (accurate integer DCT, fancy chroma upsampling). simplejpeg treats each of libjpeg's warnings as an
error; OpenCV and Pillow hide them, so those two rungs read the entropy-coded data once more in search of what was hidden.
"""

import io
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache

import numpy as np
from PIL import Image

from ffcv_ssl.codecs.jpeg import Buffer, inspect_jpeg, without_metadata
from ffcv_ssl.codecs.limits import check_pixels
from ffcv_ssl.errors import ImageError

Rung = Callable[[Buffer, np.ndarray], None]


def decode_jpeg(data: Buffer, out: np.ndarray | None = None) -> np.ndarray:
    """Decode a JPEG of a .beton file, strictly.

    Parameters
    ----------
    data
        The JPEG, YCbCr or grey, 8 bits per channel. Its EXIF orientation is not applied: `ffcv_ssl.codecs.image.load_rgb` does that.
    out
        (H, W, 3) uint8, C-contiguous, of exactly the image's size; overwritten, also when decoding fails. Default: a new array.

    Returns
    -------
    np.ndarray
        (H, W, 3) uint8, RGB: `out` where it was given. Grey images come with three equal channels.

    Raises
    ------
    ImageError
        If the decoder reports an error or a warning, or the image is not of the size of `out`.
    """
    if out is None:
        info = inspect_jpeg(data)
        check_pixels(info.width, info.height)
        out = np.empty((info.height, info.width, 3), np.uint8)
    elif out.dtype != np.uint8 or out.ndim != 3 or out.shape[2] != 3 or not out.flags.c_contiguous:
        raise ImageError(f"decode_jpeg: `out` is a C-contiguous (H, W, 3) uint8 array, got {out.dtype} {out.shape}.")
    _first_rung()[1](data, out)
    return out


def decoder_name() -> str:
    """Name the rung that decodes on this machine: "simplejpeg", "opencv" or "pillow"."""
    return _first_rung()[0]


def rungs() -> Iterator[tuple[str, Rung]]:
    """Yield the decoders that work on this machine, best first; each is imported when its turn comes."""
    for name, probe in (("simplejpeg", _simplejpeg_rung), ("opencv", _opencv_rung), ("pillow", _pillow_rung)):
        with suppress(ImportError):  # not installed, or a system library (libGL for cv2) is missing: the next rung serves
            yield name, probe()


@cache
def _first_rung() -> tuple[str, Rung]:
    return next(rungs())


def _check_shape(decoded_shape: tuple[int, ...], out: np.ndarray) -> None:
    if tuple(decoded_shape) != out.shape:
        raise ImageError(f"JPEG of (height, width, channels) {tuple(decoded_shape)}, wanted {out.shape}.")


def _simplejpeg_rung() -> Rung:
    from simplejpeg import decode_jpeg as simplejpeg_decode

    def decode(data: Buffer, out: np.ndarray) -> None:
        try:
            decoded = simplejpeg_decode(data, "RGB", buffer=out, strict=True)
        except ValueError as error:
            raise ImageError(f"JPEG does not decode: {error}") from error
        _check_shape(decoded.shape, out)

    return decode


def _opencv_rung() -> Rung:
    import cv2

    from ffcv_ssl.codecs.integrity import check_integrity

    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION

    def decode(data: Buffer, out: np.ndarray) -> None:
        info = inspect_jpeg(data)
        _check_shape((info.height, info.width, 3), out)
        check_integrity(bytes(data))
        try:
            decoded = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
        except cv2.error as error:
            raise ImageError(f"JPEG does not decode: {error}") from error
        if decoded is None:
            raise ImageError("JPEG does not decode (OpenCV does not say why).")
        cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB, dst=out)

    return decode


def _pillow_rung() -> Rung:
    from ffcv_ssl.codecs.integrity import check_integrity

    def decode(data: Buffer, out: np.ndarray) -> None:
        info = inspect_jpeg(data)
        _check_shape((info.height, info.width, 3), out)
        check_integrity(bytes(data))
        try:
            with Image.open(io.BytesIO(without_metadata(data)), formats=("JPEG",)) as image:
                out[...] = np.asarray(image.convert("RGB"))
        except Exception as error:  # Pillow lets out what its parsers meet: OSError, SyntaxError, struct.error, …
            raise ImageError(f"JPEG does not decode: {error}") from error

    return decode
