"""RGB images, stored as JPEG or as raw pixels."""

from __future__ import annotations

import operator
import warnings
from contextlib import suppress
from typing import Any

import numpy as np

from ffcv_ssl.codecs.decode import decode_jpeg
from ffcv_ssl.codecs.encode import RESAMPLES, encode_jpeg, resize, resized_shape
from ffcv_ssl.codecs.image import is_encoded, naming, read_encoded, stored_file, to_rgb
from ffcv_ssl.codecs.jpeg import JpegInfo, inspect_jpeg, is_jpeg
from ffcv_ssl.codecs.limits import MAX_SIDE, check_pixels
from ffcv_ssl.errors import FieldError, ImageError
from ffcv_ssl.fields.base import SIZE_UNKNOWN, Encoded, Field, register
from ffcv_ssl.fields.hashing import index_uniform

MODE_JPEG, MODE_RAW = 0, 1
WRITE_MODES = ("raw", "jpg", "smart", "proportion")
REENCODES = ("auto", "always", "never")
CHECKS = ("decode", "header")


@register
class RGBImageField(Field):
    """An image, decoded as (H, W, 3) uint8 RGB.

    It takes what `ffcv_ssl.codecs.image.load_rgb` takes. A JPEG given by path or as bytes is stored as it is where that loses nothing:
    see `ffcv_ssl.codecs.jpeg.JpegInfo.needed_change`. The writer counts what became of the images: "kept" (JPEG, byte for byte),
    "reencoded" (JPEG that had to change), "repaired" (JPEG that decodes only with warnings), "converted" (other images, now JPEG), "raw".

    Parameters
    ----------
    write_mode
        "raw": pixels. "jpg": JPEG. "smart": JPEG where the raw pixels exceed `smart_threshold`. "proportion": JPEG for the share
        `compress_probability` of the samples, chosen by a hash of the writer's seed and the sample's index.
    max_resolution
        Longest side in pixels, >= 1; larger images are shrunk. None keeps all sizes.
    smart_threshold
        In bytes of raw pixels (3 · width · height). None stores every image raw under "smart", as FFCV does, with a warning.
    jpeg_quality
        1 to 100, of the JPEGs encoded here.
    compress_probability
        In [0, 1], for "proportion".
    reencode
        JPEGs from the dataset that are to be stored as JPEG: "auto" keeps what can be kept, "always" encodes all again, "never" refuses
        images that could not be kept (other formats and arrays among them).
    check
        "decode": a JPEG is kept only if it decodes without a warning, others are encoded again. "header": headers are trusted.
    resample
        "bilinear" (Pillow, antialiased) or "area" (OpenCV's INTER_AREA, as FFCV; needs OpenCV).

    Raises
    ------
    FieldError
        If an argument is out of its range.
    """

    type_id = 2
    pointer_name = "data_ptr"

    def __init__(
        self,
        write_mode: str = "raw",
        max_resolution: int | None = None,
        smart_threshold: int | None = None,
        jpeg_quality: int = 90,
        compress_probability: float = 0.5,
        *,
        reencode: str = "auto",
        check: str = "decode",
        resample: str = "bilinear",
    ):
        self.write_mode = _choice("write_mode", write_mode, WRITE_MODES)
        self.max_resolution = (
            None if max_resolution is None else _integer("max_resolution", max_resolution, 1)
        )
        self.smart_threshold = (
            None if smart_threshold is None else _integer("smart_threshold", smart_threshold, 0)
        )
        self.jpeg_quality = _integer("jpeg_quality", jpeg_quality, 1, 100)
        if not 0 <= compress_probability <= 1:
            raise FieldError(
                f"RGBImageField: compress_probability is a share in [0, 1], got {compress_probability}."
            )
        self.compress_probability = float(compress_probability)
        self.reencode = _choice("reencode", reencode, REENCODES)
        self.check = _choice("check", check, CHECKS)
        self.resample = _choice("resample", resample, RESAMPLES)
        if write_mode == "smart" and smart_threshold is None:
            warnings.warn(
                "RGBImageField: write_mode='smart' without smart_threshold (bytes) stores every image raw.",
                stacklevel=2,
            )

    @property
    def record_dtype(self) -> np.dtype:
        """FFCV's 13 bytes: mode (0 JPEG, 1 raw), width, height, pointer."""
        return np.dtype([("mode", "<u1"), ("width", "<u2"), ("height", "<u2"), ("data_ptr", "<u8")])

    def describe(self) -> dict:
        """All arguments, by name."""
        return {"type": type(self).__name__, **vars(self)}

    def encode(self, value: Any, sample_index: int, seed: int = 0) -> Encoded:
        """Turn an image into JPEG or raw bytes; the record is (mode, width, height).

        Raises
        ------
        ImageError
            If the image cannot be loaded, is too large, or would have to change under `reencode="never"`; the message starts with
            the path of the image, where there is one.
        """
        value = stored_file(value)
        with naming(value):
            source = read_encoded(value) if is_encoded(value) else value
            if is_encoded(value) and is_jpeg(source):
                return self._encode_file(source, sample_index, seed)
            return self._encode_pixels(to_rgb(source), sample_index, seed)

    def decode(self, record: Any, payload: bytes | memoryview) -> np.ndarray:
        """Turn one stored image into (H, W, 3) uint8 RGB; the array is the caller's own.

        Raises
        ------
        ImageError
            If the payload is corrupt or not of the size that the record says.
        """
        shape = (int(record["height"]), int(record["width"]), 3)
        check_pixels(shape[1], shape[0])
        if record["mode"] == MODE_RAW:
            if len(payload) != np.prod(shape):
                raise ImageError(
                    f"raw image of {len(payload):,} bytes, {shape} takes {np.prod(shape):,}."
                )
            return np.frombuffer(payload, np.uint8).reshape(shape).copy()
        image = decode_jpeg(payload)
        if image.shape != shape:
            raise ImageError(
                f"JPEG of (height, width, channels) {image.shape}, its record says {shape}."
            )
        return image

    def blemish(self, record: Any, payload: bytes | memoryview) -> str | None:
        """Say what libjpeg would warn of in a JPEG whose pixels are all there, or None."""
        if record["mode"] == MODE_RAW:
            return super().blemish(record, payload)
        try:
            image = decode_jpeg(payload, strict=True)
        except ImageError as error:
            self.decode(record, payload)
            return str(error)
        if image.shape[:2] != (record["height"], record["width"]):
            self.decode(record, payload)  # which says so
        return None

    def payload_size(self, records: np.ndarray) -> np.ndarray:
        """Raw images take 3 · width · height bytes; how much a JPEG takes, only the allocation table knows."""
        pixels = records["width"].astype(np.int64) * records["height"]
        return np.where(records["mode"] == MODE_RAW, 3 * pixels, SIZE_UNKNOWN)

    def validate(self, records: np.ndarray, sizes: np.ndarray) -> None:
        """Refuse unknown modes and images without pixels or bytes."""
        broken = (
            (records["mode"] > MODE_RAW)
            | (records["width"] == 0)
            | (records["height"] == 0)
            | (sizes <= 0)
        )
        if broken.any():
            index = int(broken.argmax())
            mode, width, height = (
                int(records[name][index]) for name in ("mode", "width", "height")
            )
            raise FieldError(
                f"sample {index}: an image of mode {mode}, {width} x {height} pixels, {sizes[index]} bytes."
            )

    def _stores_jpeg(self, raw_size: int, sample_index: int, seed: int) -> bool:
        if self.write_mode == "smart":
            return self.smart_threshold is not None and raw_size > self.smart_threshold
        if self.write_mode == "proportion":
            return index_uniform(seed, sample_index) < self.compress_probability
        return self.write_mode == "jpg"

    def _encode_file(self, data: bytes, sample_index: int, seed: int) -> Encoded:
        """Store a JPEG file as it is, or else its pixels."""
        info = inspect_jpeg(data)
        check_pixels(info.width, info.height)
        height, width = info.upright_shape
        height, width = resized_shape(height, width, self.max_resolution)
        if not self._stores_jpeg(3 * height * width, sample_index, seed):
            return self._encode_pixels(_pixels(data, info), sample_index, seed)
        change, note = self._needed_change(data, info)
        if change is None:
            return Encoded(data, (MODE_JPEG, width, height), note)
        self._refuse_change(change)
        return self._encode_pixels(_pixels(data, info), sample_index, seed, note)

    def _encode_pixels(
        self, image: np.ndarray, sample_index: int, seed: int, note: str | None = None
    ) -> Encoded:
        """Store (H, W, 3) uint8 pixels; `note` for the writer's counts if they come from a JPEG that had to change."""
        image = resize(image, self.max_resolution, self.resample)
        height, width = image.shape[:2]
        if max(height, width) > MAX_SIDE:
            raise ImageError(
                f"{width} x {height} pixels: a side is at most {MAX_SIDE:,}; give max_resolution."
            )
        if not self._stores_jpeg(image.size, sample_index, seed):
            return Encoded(image.tobytes(), (MODE_RAW, width, height), "raw")
        if note is None:
            self._refuse_change("it is not a JPEG file")
        return Encoded(
            encode_jpeg(image, self.jpeg_quality), (MODE_JPEG, width, height), note or "converted"
        )

    def _needed_change(self, data: bytes, info: JpegInfo) -> tuple[str | None, str]:
        """Why a JPEG cannot be stored as it is (None: it can), and the note that goes with that."""
        if self.reencode == "always":
            return "reencode='always'", "reencoded"
        if self.max_resolution is not None and max(info.width, info.height) > self.max_resolution:
            return (
                f"{info.width} x {info.height} pixels exceed max_resolution={self.max_resolution}",
                "reencoded",
            )
        if change := info.needed_change():
            return change, "reencoded"
        if self.check == "decode":
            try:
                decode_jpeg(data, strict=True)
            except ImageError as error:
                return str(error), "repaired"
        return None, "kept"

    def _refuse_change(self, change: str) -> None:
        if self.reencode == "never":
            raise ImageError(
                f"cannot be stored as it is: {change}. reencode='never' refuses it; use 'auto' to encode it as JPEG here."
            )


def _pixels(data: bytes, info: JpegInfo) -> np.ndarray:
    """Decode a JPEG file: by the ladder where that gives Pillow's pixels (and sooner), else, or where Pillow has to repair, by Pillow."""
    if info.needed_change() is None:
        with suppress(ImageError):
            return decode_jpeg(data, np.empty((info.height, info.width, 3), np.uint8))
    return to_rgb(data)


def _choice(name: str, value: str, allowed: tuple[str, ...]) -> str:
    if value not in allowed:
        raise FieldError(
            f"RGBImageField: {name} is one of {', '.join(map(repr, allowed))}, got {value!r}."
        )
    return value


def _integer(name: str, value: int, lowest: int, highest: int | None = None) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        raise FieldError(f"RGBImageField: {name} is an integer, got {value!r}.") from None
    if number < lowest or (highest is not None and number > highest):
        bounds = f"at least {lowest}" if highest is None else f"{lowest} to {highest}"
        raise FieldError(f"RGBImageField: {name} is {bounds}, got {value}.")
    return number
