"""Convert images of any kind to (H, W, 3) uint8 RGB.

| input | result |
|---|---|
| RGB, RGBX | unchanged |
| 1, L | the gray level in all three channels |
| LA, PA, P, RGBA | the stored colors; transparency is dropped, not blended with a background |
| CMYK, YCCK, YCbCr, HSV | Pillow's conversion, without color management |
| 16 bits per channel, color or with transparency (PNG) | the upper 8 bits, as in Pillow |
| I, I;16, F | an error, because the level of white is unknown |
| LAB, La, RGBa | an error |
| uint8 array (H, W), (H, W, 1), (H, W, 3), (H, W, 4) | as L, L, RGB, RGBA |
| uint8 tensor (C, H, W) or (H, W, C) | as an array; an error if both layouts are possible |
| arrays and tensors of other dtypes or shapes | an error |
| dict with `bytes` or `path` (undecoded images of Hugging Face) | the bytes, else the file |

HEIC and JPEG XL need their plug-ins for Pillow (`ffcv_ssl.codecs.formats`). An animated or
multi-page file yields its first frame. EXIF orientation is applied and ICC profiles are ignored.
Except for the orientation, the result is that of `torchvision.datasets.folder.default_loader`.
"""

import io
import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from ffcv_ssl.codecs.formats import FORMATS, HEAD_BYTES, format_of, load_plugin, plugin_of
from ffcv_ssl.codecs.jpeg import inspect_jpeg, is_jpeg, without_metadata
from ffcv_ssl.codecs.limits import check_pixels, max_pixels, too_large
from ffcv_ssl.codecs.orientation import ORIENTATION_TAG
from ffcv_ssl.errors import ImageError

MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBX", "RGBA", "CMYK", "YCbCr", "HSV")
CHANNELS = (1, 3, 4)
TRANSPOSITIONS = {  # EXIF orientation -> operation that turns the image upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def load_rgb(value: Any) -> NDArray[np.uint8]:
    """Load an image as RGB pixels.

    Parameters
    ----------
    value
        A path, the bytes of an image file, a PIL image, an array, a torch tensor on any device, or
        a dict with `bytes` or `path`. The table at the top of this module lists the supported
        kinds.

    Returns
    -------
    np.ndarray
        (H, W, 3) uint8, RGB, C-contiguous. It may be `value` itself, so do not write to it.

    Raises
    ------
    ImageError
        If the file cannot be read, the image does not decode, or its kind is not supported. The
        message starts with the path of the image, or else with its type.

    Examples
    --------
    >>> load_rgb(np.zeros((20, 30), np.uint8)).shape
    (20, 30, 3)
    """
    value = stored_file(value)
    with errors_naming(value):
        return to_rgb(value)


def to_rgb(value: Any) -> NDArray[np.uint8]:
    """Load an image as RGB pixels, like `load_rgb`, with error messages that do not name it.

    It serves callers that name the image themselves.

    Parameters
    ----------
    value
        As for `load_rgb`, but not a dict.

    Returns
    -------
    np.ndarray
        As from `load_rgb`.

    Raises
    ------
    ImageError
        As from `load_rgb`.
    """
    if is_encoded(value):
        return _rgb_from_file(read_encoded(value))
    if isinstance(value, Image.Image):
        return _rgb_from_pillow(value)
    if isinstance(value, np.ndarray):
        return _rgb_from_array(value)
    torch = sys.modules.get("torch")  # without it there are no tensors; never import it here
    if torch is not None and isinstance(value, torch.Tensor):
        return _rgb_from_tensor(value)
    raise ImageError("an image is a path, bytes, a PIL image, a NumPy array or a tensor.")


def stored_file(value: Any) -> Any:
    """Return the bytes or path in a dict of an undecoded image; any other value unchanged.

    Raises
    ------
    ImageError
        If the dict has neither.
    """
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
    """Return whether the value is an image file: its path or its bytes."""
    return isinstance(value, (str, os.PathLike, bytes, bytearray, memoryview))


def read_encoded(value: Any) -> bytes:
    """Return the bytes of an image file.

    Parameters
    ----------
    value
        The path of the file, or its bytes.

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
def errors_naming(value: Any) -> Iterator[None]:
    """Prefix the message of an ImageError in the block with the path or type of the image.

    Parameters
    ----------
    value
        The image: its path, its bytes or any other object.

    Raises
    ------
    ImageError
        In place of the ImageError raised in the block.
    """
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


def _rgb_from_file(data: bytes) -> NDArray[np.uint8]:
    if not data:
        raise ImageError("the file is empty.")
    orientation = None
    if is_jpeg(data):
        info = inspect_jpeg(data)
        check_pixels(info.width, info.height)
        orientation, data = info.orientation, without_metadata(data)
    max_pixels()  # also sets the limit in Pillow
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
    except Exception as error:  # Pillow's parsers raise OSError, SyntaxError, struct.error, …
        raise ImageError(f"does not open: {error}") from error
    with image:
        check_pixels(*image.size)
        return _rgb_from_pillow(image, orientation)


def _rgb_from_pillow(image: Image.Image, orientation: int | None = None) -> NDArray[np.uint8]:
    """Return the pixels of a PIL image, turned by an EXIF orientation (None: the image's own)."""
    if image.mode not in MODES:
        raise ImageError(
            f"mode {image.mode!r} is not supported (wanted {', '.join(MODES)}); "
            "convert it to 8-bit RGB first."
        )
    if not image.width or not image.height:
        raise ImageError(f"{image.width} x {image.height} pixels.")
    try:
        image.load()
        if orientation is None:  # after loading, which turns a TIFF and resets its orientation
            orientation = _orientation(image)
        if image.mode in ("P", "PA"):  # to avoid Pillow's warning about transparent palettes
            image = image.convert("RGBA")
        image = image.convert("RGB")
    except Exception as error:  # Pillow's parsers, as above
        raise ImageError(f"{image.format or 'image'} does not decode: {error}") from error
    if orientation in TRANSPOSITIONS:
        image = image.transpose(TRANSPOSITIONS[orientation])
    return np.asarray(image)


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation of a PIL image; 1 if its EXIF block cannot be read."""
    try:
        return int(image.getexif().get(ORIENTATION_TAG, 1))
    except Exception:  # Pillow's parser may raise anything; the pixels are still good
        return 1


def _rgb_from_array(image: NDArray[Any]) -> NDArray[np.uint8]:
    if image.dtype != np.uint8:
        raise ImageError(
            f"dtype {image.dtype} is not supported, wanted uint8; "
            "scale the values to 0..255 and use .astype(numpy.uint8)."
        )
    if image.ndim == 2:
        image = image[:, :, None]
    if image.ndim != 3 or image.shape[2] not in CHANNELS:
        is_transposed = image.ndim == 3 and image.shape[0] in CHANNELS
        hint = "; channels come last: use .transpose(1, 2, 0)" if is_transposed else ""
        raise ImageError(
            f"shape {image.shape} is not supported, "
            f"wanted (H, W), (H, W, 1), (H, W, 3) or (H, W, 4){hint}."
        )
    if not image.size:
        raise ImageError(f"shape {image.shape} holds no pixels.")
    if image.shape[2] == 1:
        image = image.repeat(3, axis=2)
    return np.ascontiguousarray(image[:, :, :3])


def _rgb_from_tensor(tensor: Any) -> NDArray[np.uint8]:
    image = tensor.detach().cpu().numpy()
    if image.ndim == 3 and image.shape[0] in CHANNELS:
        if image.shape[2] in CHANNELS:
            raise ImageError(
                f"shape {image.shape} can be read channels first and channels last; "
                "pass a (H, W, C) NumPy array."
            )
        image = image.transpose(1, 2, 0)
    return _rgb_from_array(image)
