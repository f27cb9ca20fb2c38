"""JPEG decoder backends, in order of preference.

    native      extension module over the system's libjpeg-turbo, where `setup.py` could build it
    simplejpeg  wheel over libjpeg-turbo, a dependency of this package

Both release the GIL, write into the caller's buffer and treat every warning of libjpeg as an error.
Both skip the rows outside a box where the file has restart markers (`ffcv_ssl.codecs.slices`); the
native decoder also skips rows and columns of other files.

The pixels are libjpeg's, with the accurate integer DCT and fancy chroma upsampling. One case
depends on the version: libjpeg-turbo before 3.0.1 smooths a progressive file that ends before its
last scan in another way.

The environment variable `FFCV_SSL_DECODER` (`native` or `simplejpeg`) selects a backend, for
measurements and tests.
"""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ffcv_ssl.codecs import native
from ffcv_ssl.codecs.jpeg import Buffer, inspect_jpeg
from ffcv_ssl.codecs.limits import check_pixels
from ffcv_ssl.errors import ConfigError, ImageError

Box = tuple[int, int, int, int]  # top, left, height, width in pixels


class Decoder(Protocol):
    """A function that decodes a JPEG into `out`, (H, W, 3) uint8.

    If a box is given, only the pixels inside it need to be filled.
    """

    def __call__(self, data: Buffer, out: NDArray[np.uint8], box: Box | None = None) -> None: ...


def decode_jpeg(
    data: Buffer, out: NDArray[np.uint8] | None = None, *, strict: bool = False
) -> NDArray[np.uint8]:
    """Decode a whole JPEG of a .beton file, or raise an error.

    Two kinds of damage are tolerated unless `strict` is set, because they cost no pixel: stray
    bytes after the last block of a scan, and a missing end marker
    (`ffcv_ssl.codecs.integrity.without_stray_bytes`).

    Parameters
    ----------
    data
        The JPEG: YCbCr or gray, 8 bits per channel. Its EXIF orientation is ignored;
        `ffcv_ssl.codecs.image.load_rgb` applies it.
    out
        (H, W, 3) uint8, C-contiguous, of exactly the image's size. It is overwritten, even when
        decoding fails. Default: a new array.
    strict
        Whether to raise an error for anything that libjpeg warns about.

    Returns
    -------
    np.ndarray
        (H, W, 3) uint8, RGB: `out` if it was given. A gray image has three equal channels.

    Raises
    ------
    ImageError
        If pixels are missing or damaged, or if the image and `out` differ in size.
    ConfigError
        If `FFCV_SSL_DECODER` selects a decoder that is not available.

    Examples
    --------
    >>> from ffcv_ssl.codecs.encode import encode_jpeg
    >>> decode_jpeg(encode_jpeg(np.full((20, 30, 3), 128, np.uint8), quality=90)).shape
    (20, 30, 3)
    """
    if out is None:
        info = inspect_jpeg(data)
        check_pixels(info.width, info.height)
        out = np.empty((info.height, info.width, 3), np.uint8)
    _check_buffer(out)
    if strict:
        selected_decoder()[1](data, out)
    else:
        _decode(data, out)
    return out


def decode_box(data: Buffer, out: NDArray[np.uint8], box: Box) -> None:
    """Decode a box of a JPEG; inside the box the pixels equal those of `decode_jpeg`.

    A damaged file raises an error exactly when `decode_jpeg` does, with one exception: rows of MCUs
    that are skipped at restart markers (`ffcv_ssl.codecs.slices`) are not read, so damage confined
    to them goes unnoticed. It cannot affect the box.

    Parameters
    ----------
    data
        The JPEG, as for `decode_jpeg`.
    out
        (H, W, 3) uint8, C-contiguous, of the whole image's size. Pixels outside the box are
        undefined afterwards.
    box
        Top, left, height, width in pixels: at least one pixel, inside the image.

    Raises
    ------
    ImageError
        As for `decode_jpeg`, or if the box is empty or extends beyond the image.
    ConfigError
        If `FFCV_SSL_DECODER` selects a decoder that is not available.

    Examples
    --------
    >>> from ffcv_ssl.codecs.encode import encode_jpeg
    >>> data = encode_jpeg(np.full((20, 30, 3), 128, np.uint8), quality=90)
    >>> image = np.zeros((20, 30, 3), np.uint8)
    >>> decode_box(data, image, (5, 10, 2, 3))
    >>> image[5:7, 10:13, 0]
    array([[128, 128, 128],
           [128, 128, 128]], dtype=uint8)
    """
    _check_buffer(out)
    top, left, height, width = box
    is_inside = top + height <= out.shape[0] and left + width <= out.shape[1]
    if min(top, left) < 0 or min(height, width) < 1 or not is_inside:
        raise ImageError(
            f"decode_box: the box (top, left, height, width) {tuple(box)} is empty or extends "
            f"beyond the image of shape {out.shape[:2]}."
        )
    _decode(data, out, box)


def _decode(data: Buffer, out: NDArray[np.uint8], box: Box | None = None) -> None:
    """Decode with the selected decoder; if it refuses the file, try again without stray bytes."""
    decoder = selected_decoder()[1]
    try:
        decoder(data, out, box)
    except ImageError as error:
        from ffcv_ssl.codecs.integrity import without_stray_bytes  # it imports Numba

        try:
            info = inspect_jpeg(data)
            _check_shape((info.height, info.width, 3), out)
            repaired = without_stray_bytes(bytes(data))
        except ImageError:
            raise error from None
        if len(repaired) == len(data):
            raise
        decoder(repaired, out, box)


def decoder_name() -> str:
    """Return the name of the selected decoder, "native" or "simplejpeg".

    Raises
    ------
    ConfigError
        If `FFCV_SSL_DECODER` selects a decoder that is not available.
    """
    return selected_decoder()[0]


def available_decoders() -> Iterator[tuple[str, Decoder]]:
    """Yield name and function of each decoder that works on this machine, in order of preference.

    A decoder is imported when the iteration reaches it.
    """
    with suppress(ImportError):  # not built, switched off, or loaded with another libjpeg
        yield "native", _native_decoder()
    yield "simplejpeg", _simplejpeg_decoder()


@cache
def selected_decoder() -> tuple[str, Decoder]:
    """Return name and function of the decoder that this process uses.

    It is the first of `available_decoders`, unless `FFCV_SSL_DECODER` names another one. The choice
    is made once per process.

    Raises
    ------
    ConfigError
        If `FFCV_SSL_DECODER` selects a decoder that is not available.
    """
    name = os.environ.get("FFCV_SSL_DECODER")
    if name is None:
        return next(available_decoders())
    if name not in _BACKENDS:
        raise ConfigError(f"FFCV_SSL_DECODER is one of {', '.join(_BACKENDS)}, got {name!r}.")
    try:
        return name, _BACKENDS[name]()
    except ImportError as error:
        raise ConfigError(f"FFCV_SSL_DECODER={name}: {error}") from error


def _check_buffer(out: NDArray[np.uint8]) -> None:
    if out.dtype != np.uint8 or out.ndim != 3 or out.shape[2] != 3 or not out.flags.c_contiguous:
        raise ImageError(
            "a JPEG is decoded into a C-contiguous (H, W, 3) uint8 array, "
            f"got {out.dtype} {out.shape}."
        )


def _check_shape(decoded_shape: tuple[int, ...], out: NDArray[np.uint8]) -> None:
    if tuple(decoded_shape) != out.shape:
        raise ImageError(
            f"JPEG of (height, width, channels) {tuple(decoded_shape)}, wanted {out.shape}."
        )


class _SliceMemory(threading.local):
    """A thread's buffer for the JPEG slices that it decodes."""

    def __init__(self) -> None:
        self.buffer = np.empty(0, np.uint8)

    def cut(
        self, data: NDArray[np.uint8], out: NDArray[np.uint8], box: Box
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8], Box]:
        """Return a JPEG of the rows that the box needs, their part of `out`, and the box in it.

        A file that cannot be cut is returned unchanged, with `out` and `box`.
        """
        from ffcv_ssl.codecs.slices import cut_rows  # it imports Numba, which writers do not need

        if len(self.buffer) < len(data):
            self.buffer = np.empty(len(data), np.uint8)
        top, left, height, width = box
        size, first_line, num_lines = cut_rows(data, out.shape[0], top, top + height, self.buffer)
        if size == 0:
            return data, out, box
        lines = out[first_line : first_line + num_lines]
        return self.buffer[:size], lines, (top - first_line, left, height, width)


_slice_memory = _SliceMemory()


def _native_decoder() -> Decoder:
    """Load the native decoder; an ImportError if it is missing or its library does not match."""
    native.extension_module()
    native.Handle()

    def decode(data: Buffer, out: NDArray[np.uint8], box: Box | None = None) -> None:
        encoded = np.frombuffer(data, np.uint8)
        if box is None:
            native.decode(encoded, out, (0, 0, *out.shape[:2]))
        else:
            native.decode(*_slice_memory.cut(encoded, out, box))

    return decode


def _simplejpeg_decoder() -> Decoder:
    from simplejpeg import decode_jpeg as simplejpeg_decode

    def decode(data: Buffer, out: NDArray[np.uint8], box: Box | None = None) -> None:
        if box is not None:
            data, out, _ = _slice_memory.cut(np.frombuffer(data, np.uint8), out, box)
        try:
            decoded = simplejpeg_decode(data, "RGB", buffer=out, strict=True)
        except ValueError as error:
            raise ImageError(f"JPEG does not decode: {error}") from error
        _check_shape(decoded.shape, out)

    return decode


_BACKENDS: dict[str, Callable[[], Decoder]] = {
    "native": _native_decoder,
    "simplejpeg": _simplejpeg_decoder,
}
