"""The decoder ladder: the first decoder of JPEG bytes that works on this machine, and every one of them strict.

    1  native       the shim over the system's libjpeg-turbo, where setup.py could build it; decodes parts of an image
    2  simplejpeg   a wheel over libjpeg-turbo; without the GIL, into the caller's buffer; rows cut at restart markers
    3  OpenCV       where `import cv2` works (it needs libGL)
    4  Pillow       always there

All rungs give libjpeg's pixels (accurate integer DCT, fancy chroma upsampling; only a progressive file that ends before its last scan is
smoothed otherwise by libjpeg-turbo before 3.0.1, which a rung may bring). The first two treat each of libjpeg's warnings as an
error; OpenCV and Pillow hide them, so those two rungs read the entropy-coded data once more in search of what was hidden.
`FFCV_SSL_DECODER=native|simplejpeg|opencv|pillow` chooses the rung, for measurements and tests.
"""

import io
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from typing import Protocol

import numpy as np
from PIL import Image

from ffcv_ssl.codecs import native
from ffcv_ssl.codecs.jpeg import Buffer, inspect_jpeg, without_metadata
from ffcv_ssl.codecs.limits import check_pixels
from ffcv_ssl.errors import ConfigError, ImageError

Box = tuple[int, int, int, int]


class Rung(Protocol):
    """A decoder: it fills `out`, (H, W, 3) uint8, or at least the box (top, left, height, width) of it."""

    def __call__(self, data: Buffer, out: np.ndarray, box: Box | None = None) -> None: ...


def decode_jpeg(data: Buffer, out: np.ndarray | None = None, *, strict: bool = False) -> np.ndarray:
    """Decode a JPEG of a .beton file, all of it or not at all.

    Of what libjpeg warns of, only stray bytes behind the last block and a missing end marker are let pass:
    every pixel is there (`ffcv_ssl.codecs.integrity.without_stray_bytes`).

    Parameters
    ----------
    data
        The JPEG, YCbCr or grey, 8 bits per channel. Its EXIF orientation is not applied: `ffcv_ssl.codecs.image.load_rgb` does that.
    out
        (H, W, 3) uint8, C-contiguous, of exactly the image's size; overwritten, also when decoding fails. Default: a new array.
    strict
        Let nothing pass.

    Returns
    -------
    np.ndarray
        (H, W, 3) uint8, RGB: `out` where it was given. Grey images come with three equal channels.

    Raises
    ------
    ImageError
        If pixels are missing or broken, or the image is not of the size of `out`.
    ConfigError
        If `FFCV_SSL_DECODER` asks for a decoder that is not there.
    """
    if out is None:
        info = inspect_jpeg(data)
        check_pixels(info.width, info.height)
        out = np.empty((info.height, info.width, 3), np.uint8)
    _check_buffer(out)
    if strict:
        _first_rung()[1](data, out)
    else:
        _decode(data, out)
    return out


def decode_box(data: Buffer, out: np.ndarray, box: Box) -> None:
    """Decode a part of a JPEG: inside the box the pixels of `decode_jpeg`, bit for bit, and for less time where the rung can.

    A damaged file is an error exactly where it is one for `decode_jpeg`, with one exception: rows of MCUs that are cut away at restart
    markers (`ffcv_ssl.codecs.slices`) are not looked at, so damage that lies wholly in them goes unnoticed. It does not bear on the box.

    Parameters
    ----------
    data
        As for `decode_jpeg`.
    out
        (H, W, 3) uint8, C-contiguous, of the whole image's size. Pixels outside the box are undefined afterwards.
    box
        Top, left, height, width in pixels; at least one pixel, inside the image.

    Raises
    ------
    ImageError, ConfigError
        As `decode_jpeg`.
    """
    _check_buffer(out)
    top, left, height, width = box
    if (
        min(top, left) < 0
        or min(height, width) < 1
        or top + height > out.shape[0]
        or left + width > out.shape[1]
    ):
        raise ImageError(
            f"decode_box: the box (top, left, height, width) {tuple(box)} reaches out of an image of {out.shape[:2]}."
        )
    _decode(data, out, box)


def _decode(data: Buffer, out: np.ndarray, box: Box | None = None) -> None:
    """Decode with this machine's rung; where it refuses the file, without stray bytes."""
    rung = _first_rung()[1]
    try:
        rung(data, out, box)
    except ImageError as error:
        from ffcv_ssl.codecs.integrity import without_stray_bytes

        try:
            info = inspect_jpeg(data)
            _check_shape((info.height, info.width, 3), out)
            repaired = without_stray_bytes(bytes(data))
        except ImageError:
            raise error from None
        if len(repaired) == len(data):
            raise
        rung(repaired, out, box)


def decoder_name() -> str:
    """Name the rung that decodes on this machine: "native", "simplejpeg", "opencv" or "pillow".

    Raises
    ------
    ConfigError
        If `FFCV_SSL_DECODER` asks for a decoder that is not there.
    """
    return _first_rung()[0]


def rungs() -> Iterator[tuple[str, Rung]]:
    """Yield the decoders that work on this machine, best first; each is imported when its turn comes."""
    for name, probe in PROBES.items():
        with suppress(
            ImportError
        ):  # not installed, or a system library (libGL for cv2) is missing: the next rung serves
            yield name, probe()


@cache
def _first_rung() -> tuple[str, Rung]:
    wanted = os.environ.get("FFCV_SSL_DECODER")
    if wanted is None:
        return next(rungs())
    if wanted not in PROBES:
        raise ConfigError(f"FFCV_SSL_DECODER is one of {', '.join(PROBES)}, got {wanted!r}.")
    try:
        return wanted, PROBES[wanted]()
    except ImportError as error:
        raise ConfigError(f"FFCV_SSL_DECODER={wanted}: {error}") from error


def _check_buffer(out: np.ndarray) -> None:
    if out.dtype != np.uint8 or out.ndim != 3 or out.shape[2] != 3 or not out.flags.c_contiguous:
        raise ImageError(
            f"a JPEG is decoded into a C-contiguous (H, W, 3) uint8 array, got {out.dtype} {out.shape}."
        )


def _check_shape(decoded_shape: tuple[int, ...], out: np.ndarray) -> None:
    if tuple(decoded_shape) != out.shape:
        raise ImageError(
            f"JPEG of (height, width, channels) {tuple(decoded_shape)}, wanted {out.shape}."
        )


class _Slice(threading.local):
    """A thread's memory for the part of a file that is decoded."""

    def __init__(self) -> None:
        self.memory = np.empty(0, np.uint8)

    def cut(
        self, data: np.ndarray, out: np.ndarray, box: Box
    ) -> tuple[np.ndarray, np.ndarray, Box]:
        """Return a JPEG of the rows that the box needs, the rows of `out` it fills, and the box in these; all as given where uncut."""
        from ffcv_ssl.codecs.slices import cut_rows  # it brings Numba, which writers do without

        if len(self.memory) < len(data):
            self.memory = np.empty(len(data), np.uint8)
        top, left, height, width = box
        size, line, lines = cut_rows(data, out.shape[0], top, top + height, self.memory)
        if size == 0:
            return data, out, box
        return self.memory[:size], out[line : line + lines], (top - line, left, height, width)


_slice = _Slice()


def _native_rung() -> Rung:
    native.shim()  # an ImportError where there is none
    native.Handle()  # or where its library is of another version

    def decode(data: Buffer, out: np.ndarray, box: Box | None = None) -> None:
        encoded = np.frombuffer(data, np.uint8)
        if box is None:
            native.decode(encoded, out, (0, 0, *out.shape[:2]))
        else:
            native.decode(*_slice.cut(encoded, out, box))

    return decode


def _simplejpeg_rung() -> Rung:
    from simplejpeg import decode_jpeg as simplejpeg_decode

    def decode(data: Buffer, out: np.ndarray, box: Box | None = None) -> None:
        if box is not None:
            data, out, _ = _slice.cut(np.frombuffer(data, np.uint8), out, box)
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

    def decode(data: Buffer, out: np.ndarray, box: Box | None = None) -> None:
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

    def decode(data: Buffer, out: np.ndarray, box: Box | None = None) -> None:
        info = inspect_jpeg(data)
        _check_shape((info.height, info.width, 3), out)
        check_integrity(bytes(data))
        try:
            with Image.open(io.BytesIO(without_metadata(data)), formats=("JPEG",)) as image:
                out[...] = np.asarray(image.convert("RGB"))
        except (
            Exception
        ) as error:  # Pillow lets out what its parsers meet: OSError, SyntaxError, struct.error, …
            raise ImageError(f"JPEG does not decode: {error}") from error

    return decode


PROBES: dict[str, Callable[[], Rung]] = {
    "native": _native_rung,
    "simplejpeg": _simplejpeg_rung,
    "opencv": _opencv_rung,
    "pillow": _pillow_rung,
}
