"""Whatever stands for an image becomes (H, W, 3) uint8 RGB, by one rule, or is refused by name.

| what it is | what becomes of it |
|---|---|
| RGB, RGBX | as it is |
| 1, L | the grey level in all three channels |
| LA, PA, P, RGBA | colours as stored; transparency is dropped, not blended with a background |
| CMYK, YCCK, YCbCr, HSV | Pillow's conversion, without colour management |
| 16 bits per channel, in colour or with transparency (PNG) | the upper 8 bits, as Pillow reads them |
| I, I;16, F | refused: which level is white is not known |
| LAB, La, RGBa | refused |
| array (H, W), (H, W, 1), (H, W, 3), (H, W, 4), uint8 | as L, L, RGB, RGBA |
| tensor, uint8 | channels first (C, H, W) or last (H, W, C); refused where both readings are possible |
| arrays and tensors of other dtypes or shapes | refused |
| dict with `bytes` or `path` (undecoded images of Hugging Face) | the file: its bytes if there, else its path |

HEIC and JPEG XL are read where their plug-ins for Pillow are installed (`ffcv_ssl.codecs.formats`).
Animated and multi-page files give their first frame. EXIF orientation is applied; ICC profiles are ignored. This is what
`torchvision.datasets.folder.default_loader` gives, but for the orientation, which it leaves.
"""

import io
import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from ffcv_ssl.codecs.formats import FORMATS, HEAD_BYTES, format_of, load_plugin, plugin_of
from ffcv_ssl.codecs.jpeg import ORIENTATION_TAG, inspect_jpeg, is_jpeg, without_metadata
from ffcv_ssl.codecs.limits import check_pixels, max_pixels, too_large
from ffcv_ssl.errors import ImageError

MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBX", "RGBA", "CMYK", "YCbCr", "HSV")
CHANNELS = (1, 3, 4)
TRANSPOSITIONS = {  # EXIF orientation -> what turns the image upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def load_rgb(value: Any) -> np.ndarray:
    """Load an image from what a dataset gave.

    Parameters
    ----------
    value
        A path, the bytes of an image file, a PIL image, an array, a torch tensor (on any device), or
        a dict with `bytes` or `path`.

    Returns
    -------
    np.ndarray
        (H, W, 3) uint8, RGB, C-contiguous; `value` itself where it is just that, so it is not to be written to.

    Raises
    ------
    ImageError
        If the file cannot be read, the image does not decode, or its kind is not in the table above. The message starts with the
        path, where there is one.
    """
    value = stored_file(value)
    with naming(value):
        return to_rgb(value)


def to_rgb(value: Any) -> np.ndarray:
    """`load_rgb`, whose error messages do not name the value: for callers that name it themselves."""
    if is_encoded(value):
        return _rgb_from_file(read_encoded(value))
    if isinstance(value, Image.Image):
        return _rgb_from_pillow(value)
    if isinstance(value, np.ndarray):
        return _rgb_from_array(value)
    if "torch" in sys.modules and isinstance(
        value, sys.modules["torch"].Tensor
    ):  # no tensor without torch: never import it here
        return _rgb_from_tensor(value)
    raise ImageError("an image is a path, bytes, a PIL image, a NumPy array or a tensor.")


def stored_file(value: Any) -> Any:
    """The bytes or path in a dict of an undecoded image; any other value as it is."""
    if not isinstance(value, Mapping):
        return value
    file = value.get("bytes")
    file = value.get("path") if file is None else file
    if file is None or isinstance(file, Mapping):
        keys = ", ".join(map(str, value))
        raise ImageError(
            f"a dict with the keys {keys or '(none)'}, wanted an image in 'bytes' or 'path'."
        )
    return file


def is_encoded(value: Any) -> bool:
    """Whether the value is an image file: its path or its bytes."""
    return isinstance(value, (str, os.PathLike, bytes, bytearray, memoryview))


def read_encoded(value: Any) -> bytes:
    """The bytes of an image file given by path or as bytes.

    Raises
    ------
    ImageError
        If the file cannot be read.
    """
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    try:
        with open(value, "rb", buffering=0) as file:
            return file.read()
    except OSError as error:
        raise ImageError(f"cannot be read: {error.strerror or error}.") from error


@contextmanager
def naming(value: Any) -> Iterator[None]:
    """Put the path of the image, or what else it is, before the message of an ImageError raised in the block."""
    try:
        yield
    except ImageError as error:
        if isinstance(value, (str, os.PathLike)):
            name = os.fspath(value)
        elif isinstance(value, (bytes, bytearray, memoryview)):
            name = f"image of {len(value):,} bytes"
        else:
            name = type(value).__name__
        raise ImageError(f"{name}: {error}") from error


def _rgb_from_file(data: bytes) -> np.ndarray:
    if not data:
        raise ImageError("the file is empty.")
    orientation = None
    if is_jpeg(data):
        info = inspect_jpeg(data)
        check_pixels(info.width, info.height)
        orientation, data = info.orientation, without_metadata(data)
    max_pixels()  # which tells Pillow, too
    plugin = plugin_of(format_of(data[:HEAD_BYTES]))
    formats = (plugin.format,) if plugin is not None and load_plugin(plugin.format) else FORMATS
    try:
        image = Image.open(io.BytesIO(data), formats=formats)
    except Image.DecompressionBombError as error:
        found = re.search(r"\d+", str(error))
        raise too_large(f"{int(found[0]):,}" if found else "too many") from error
    except UnidentifiedImageError as error:
        if plugin is not None and formats is FORMATS:
            needed = f"needs a plug-in: pip install {plugin.package}"
            raise ImageError(f"a {plugin.format} image, which {needed}") from error
        known = ", ".join(formats)
        raise ImageError(
            f"not an image of a known format ({known}): starts with {data[:16]!r}."
        ) from error
    except Exception as error:  # Pillow's readers let out what their parsers meet: OSError, SyntaxError, struct.error, KeyError, …
        raise ImageError(f"does not open: {error}") from error
    with image:
        check_pixels(*image.size)
        return _rgb_from_pillow(image, orientation)


def _rgb_from_pillow(image: Image.Image, orientation: int | None = None) -> np.ndarray:
    """The pixels of a PIL image, turned by an EXIF orientation (None: its own)."""
    if image.mode not in MODES:
        raise ImageError(
            f"mode {image.mode!r} is not supported (wanted {', '.join(MODES)}); convert it to 8-bit RGB first."
        )
    if not image.width or not image.height:
        raise ImageError(f"{image.width} x {image.height} pixels.")
    try:
        image.load()
        orientation = (
            _orientation(image) if orientation is None else orientation
        )  # after loading: TIFF turns itself, and resets it
        if image.mode in (
            "P",
            "PA",
        ):  # Pillow warns of palettes with transparency on the direct way
            image = image.convert("RGBA")
        image = image.convert("RGB")
    except Exception as error:  # as above
        raise ImageError(f"{image.format or 'image'} does not decode: {error}") from error
    if orientation in TRANSPOSITIONS:
        image = image.transpose(TRANSPOSITIONS[orientation])
    return np.asarray(image)


def _orientation(image: "Image.Image") -> int:
    """EXIF orientation of a PIL image; 1 where its EXIF block cannot be read."""
    try:
        return int(image.getexif().get(ORIENTATION_TAG, 1))
    except (
        Exception
    ):  # a broken EXIF block makes Pillow's parser raise anything; the pixels are still good
        return 1


def _rgb_from_array(image: np.ndarray) -> np.ndarray:
    if image.dtype != np.uint8:
        raise ImageError(
            f"dtype {image.dtype} is not supported, wanted uint8; scale the values to 0..255 and use .astype(numpy.uint8)."
        )
    if image.ndim == 2:
        image = image[:, :, None]
    if image.ndim != 3 or image.shape[2] not in CHANNELS:
        hint = (
            "; channels come last: use .transpose(1, 2, 0)"
            if image.ndim == 3 and image.shape[0] in CHANNELS
            else ""
        )
        raise ImageError(
            f"shape {image.shape} is not supported, wanted (H, W), (H, W, 1), (H, W, 3) or (H, W, 4){hint}."
        )
    if not image.size:
        raise ImageError(f"shape {image.shape} holds no pixels.")
    if image.shape[2] == 1:
        image = image.repeat(3, axis=2)
    return np.ascontiguousarray(image[:, :, :3])


def _rgb_from_tensor(tensor: Any) -> np.ndarray:
    image = tensor.detach().cpu().numpy()
    if image.ndim == 3 and image.shape[0] in CHANNELS:
        if image.shape[2] in CHANNELS:
            raise ImageError(
                f"shape {image.shape} can be read channels first and channels last; pass a (H, W, C) NumPy array."
            )
        image = image.transpose(1, 2, 0)
    return _rgb_from_array(image)
