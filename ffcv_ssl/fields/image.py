"""The field for RGB images, stored as JPEG or as raw pixels."""

from __future__ import annotations

import operator
import warnings
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ffcv_ssl.codecs.decode import decode_jpeg
from ffcv_ssl.codecs.encode import RESAMPLES, encode_jpeg, resize, resized_shape
from ffcv_ssl.codecs.image import errors_naming, is_encoded, read_encoded, stored_file, to_rgb
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
    """An RGB image per sample, decoded as (H, W, 3) uint8.

    It accepts the values that `ffcv_ssl.codecs.image.load_rgb` accepts. A JPEG given by path or as
    bytes is stored unchanged if that loses nothing (`ffcv_ssl.codecs.jpeg.JpegInfo.needed_change`).

    The writer counts how the images were stored: "kept" (a JPEG, byte for byte), "reencoded" (a
    JPEG that had to change), "repaired" (a JPEG that decodes only with warnings), "converted"
    (another image, now JPEG) and "raw".

    Parameters
    ----------
    write_mode
        "raw": pixels. "jpg": JPEG. "smart": JPEG if the raw pixels exceed `smart_threshold`.
        "proportion": JPEG with probability `compress_probability`, drawn by a hash of the writer's
        seed and the sample's index.
    max_resolution
        Longest side in pixels, >= 1; larger images are shrunk. None keeps every size.
    smart_threshold
        Size of the raw pixels (3 · width · height) in bytes, >= 0. None: under "smart" every image
        is stored raw, as in FFCV, and a warning is issued.
    jpeg_quality
        Quality of the JPEGs that are encoded here, 1 to 100.
    compress_probability
        Probability in [0, 1], for "proportion".
    reencode
        Treatment of JPEGs from the dataset that are to be stored as JPEG. "auto" keeps them if
        possible, "always" encodes them again, and "never" raises an error for every image that
        cannot be kept (including other formats and arrays).
    check
        "decode": a JPEG is kept only if it decodes without a warning; otherwise it is encoded
        again. "header": only its header is read.
    resample
        "bilinear" (Pillow, antialiased) or "area" (OpenCV's INTER_AREA, which FFCV uses).

    Raises
    ------
    FieldError
        If an argument is out of range.

    Examples
    --------
    >>> field = RGBImageField("jpg", max_resolution=256)
    >>> encoded = field.encode(np.zeros((300, 400, 3), np.uint8), sample_index=0)
    >>> encoded.record, encoded.note  # mode, width, height
    ((0, 256, 192), 'converted')
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
        self.max_resolution = _optional_integer("max_resolution", max_resolution, 1)
        self.smart_threshold = _optional_integer("smart_threshold", smart_threshold, 0)
        self.jpeg_quality = _integer("jpeg_quality", jpeg_quality, 1, 100)
        if not 0 <= compress_probability <= 1:
            problem = f"compress_probability is a number in [0, 1], got {compress_probability}"
            raise FieldError(f"RGBImageField: {problem}.")
        self.compress_probability = float(compress_probability)
        self.reencode = _choice("reencode", reencode, REENCODES)
        self.check = _choice("check", check, CHECKS)
        self.resample = _choice("resample", resample, RESAMPLES)
        if write_mode == "smart" and smart_threshold is None:
            problem = "write_mode='smart' without smart_threshold (bytes) stores every image raw"
            warnings.warn(f"RGBImageField: {problem}.", stacklevel=2)

    @property
    def record_dtype(self) -> np.dtype[Any]:
        """Mode (0: JPEG, 1: raw), width, height and pointer: 13 bytes, as in FFCV."""
        return np.dtype([("mode", "<u1"), ("width", "<u2"), ("height", "<u2"), ("data_ptr", "<u8")])

    def describe(self) -> dict[str, Any]:
        """Return all arguments by name."""
        return {"type": type(self).__name__, **vars(self)}

    def encode(self, value: Any, sample_index: int, seed: int = 0) -> Encoded:
        """Encode an image as JPEG or raw pixels; the record is (mode, width, height).

        Parameters
        ----------
        value
            Any image that `ffcv_ssl.codecs.image.load_rgb` accepts.
        sample_index, seed
            As for `Field.encode`, used by `write_mode="proportion"`.

        Raises
        ------
        ImageError
            If the image cannot be loaded, is too large, or cannot be kept under `reencode="never"`.
            The message starts with the path of the image, or else with its type.
        """
        value = stored_file(value)
        with errors_naming(value):
            source = read_encoded(value) if is_encoded(value) else value
            if is_encoded(value) and is_jpeg(source):
                return self._encode_file(source, sample_index, seed)
            return self._encode_pixels(to_rgb(source), sample_index, seed)

    def decode(self, record: Any, payload: bytes | memoryview) -> NDArray[np.uint8]:
        """Decode an image.

        Parameters
        ----------
        record
            Scalar of `record_dtype`.
        payload
            The JPEG or the raw pixels.

        Returns
        -------
        np.ndarray
            (H, W, 3) uint8, RGB; it owns its memory.

        Raises
        ------
        ImageError
            If the payload is damaged, or its size contradicts the record.
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
            found = f"JPEG of (height, width, channels) {image.shape}"
            raise ImageError(f"{found}, its record says {shape}.")
        return image

    def blemish(self, record: Any, payload: bytes | memoryview) -> str | None:
        """Return the warning of libjpeg for a JPEG whose pixels are complete, or None."""
        if record["mode"] == MODE_RAW:
            return super().blemish(record, payload)
        try:
            image = decode_jpeg(payload, strict=True)
        except ImageError as error:
            self.decode(record, payload)
            return str(error)
        if image.shape[:2] != (record["height"], record["width"]):
            self.decode(record, payload)  # it raises the error
        return None

    def payload_size(self, records: NDArray[Any]) -> NDArray[np.int64]:
        """Return 3 · width · height bytes for raw images and `SIZE_UNKNOWN` for JPEGs."""
        pixels = records["width"].astype(np.int64) * records["height"]
        return np.where(records["mode"] == MODE_RAW, 3 * pixels, SIZE_UNKNOWN)

    def validate(self, records: NDArray[Any], sizes: NDArray[np.int64]) -> None:
        """Raise a FieldError for unknown modes and for images without pixels or bytes."""
        is_empty = (records["width"] == 0) | (records["height"] == 0) | (sizes <= 0)
        broken = (records["mode"] > MODE_RAW) | is_empty
        if broken.any():
            index = int(broken.argmax())
            mode, width, height, _ = records[index].tolist()
            raise FieldError(
                f"sample {index}: an image of mode {mode}, {width} x {height} pixels, "
                f"{sizes[index]} bytes."
            )

    def _stores_jpeg(self, raw_size: int, sample_index: int, seed: int) -> bool:
        if self.write_mode == "smart":
            return self.smart_threshold is not None and raw_size > self.smart_threshold
        if self.write_mode == "proportion":
            return index_uniform(seed, sample_index) < self.compress_probability
        return self.write_mode == "jpg"

    def _encode_file(self, data: bytes, sample_index: int, seed: int) -> Encoded:
        """Store a JPEG file unchanged, or else its pixels."""
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
        self, image: NDArray[np.uint8], sample_index: int, seed: int, note: str | None = None
    ) -> Encoded:
        """Store (H, W, 3) uint8 pixels.

        `note` is the writer's note if the pixels come from a JPEG that had to change.
        """
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
        data = encode_jpeg(image, self.jpeg_quality)
        return Encoded(data, (MODE_JPEG, width, height), note or "converted")

    def _needed_change(self, data: bytes, info: JpegInfo) -> tuple[str | None, str]:
        """Return why a JPEG cannot be stored unchanged (None: it can), and the writer's note."""
        if self.reencode == "always":
            return "reencode='always'", "reencoded"
        if self.max_resolution is not None and max(info.width, info.height) > self.max_resolution:
            size = f"{info.width} x {info.height} pixels"
            return f"{size} exceed max_resolution={self.max_resolution}", "reencoded"
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
                f"cannot be stored as it is: {change}. reencode='never' refuses it; "
                "use 'auto' to encode it as JPEG here."
            )


def _pixels(data: bytes, info: JpegInfo) -> NDArray[np.uint8]:
    """Decode a JPEG file to Pillow's pixels.

    `decode_jpeg` is faster and yields the same pixels for files that need no change. Pillow decodes
    the others, and those that it has to repair.
    """
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


def _optional_integer(name: str, value: int | None, lowest: int) -> int | None:
    return None if value is None else _integer(name, value, lowest)


def _integer(name: str, value: int, lowest: int, highest: int | None = None) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        raise FieldError(f"RGBImageField: {name} is an integer, got {value!r}.") from None
    if number < lowest or (highest is not None and number > highest):
        bounds = f"at least {lowest}" if highest is None else f"{lowest} to {highest}"
        raise FieldError(f"RGBImageField: {name} is {bounds}, got {value}.")
    return number
