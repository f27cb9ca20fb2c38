"""Images and labels as NumPy arrays in one `.npz` file.

| key | array |
|---|---|
| `images`, or `train_images` and `test_images` | (N, H, W, 3), (N, H, W, 1) or (N, H, W), uint8 |
| `labels`, or `train_labels` and `test_labels` (optional) | (N,), integers from 0 |
| `class_names` (optional) | (num_classes,), strings |

A key with the name of the split takes precedence over one without.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ffcv_ssl.errors import SourceError
from ffcv_ssl.sources.source import Source


def npz_arrays(path: str, split: str) -> Source:
    """Open one split of an `.npz` file.

    Parameters
    ----------
    path
        The file, with the arrays of the table above.
    split
        "train" or "test".

    Returns
    -------
    Source
        Images, labels if there are any, and class names if they are given.

    Raises
    ------
    SourceError
        If the file cannot be read, contains Python objects, or its arrays have another dtype or
        shape.
    """
    try:
        with open(path, "rb") as stream:
            file = np.load(stream, allow_pickle=False)
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise ValueError("it holds a single array")
            images = _array(file, f"{split}_images", "images")
            labels = _array(file, f"{split}_labels", "labels")
            names = _array(file, "class_names")
            class_names = None if names is None else _texts(names)
            keys = ", ".join(file.files)
    except OSError as error:
        raise SourceError(f"{path}: cannot be read: {error.strerror or error}.") from error
    except Exception as error:  # any error of zipfile, its decompressors and NumPy's header parser
        reason = str(error) or type(error).__name__
        raise SourceError(f"{path}: not an .npz file of plain arrays: {reason}.") from error
    if images is None:
        raise SourceError(
            f"{path}: no array 'images' or '{split}_images'; it has {keys or 'none'}."
        )
    has_channels = images.ndim == 4 and images.shape[3] in (1, 3)
    if images.dtype != np.uint8 or not (images.ndim == 3 or has_channels):
        raise SourceError(
            f"{path}: images are {images.dtype} {images.shape}, wanted uint8 (N, H, W, 3), "
            "(N, H, W, 1) or (N, H, W)."
        )
    if labels is not None:
        labels = _checked_labels(path, labels, len(images), class_names)
    return Source(images, labels, class_names)


def _array(file: np.lib.npyio.NpzFile, *keys: str) -> NDArray[Any] | None:
    """Return the array of the first key that exists, read to the end so that its CRC is checked."""
    key = next((key for key in keys if key in file.files), None)
    if key is None:
        return None
    assert file.zip is not None  # the file is open
    name = f"{key}.npy" if f"{key}.npy" in file.zip.namelist() else key
    with file.zip.open(name) as member:
        array = np.lib.format.read_array(member, allow_pickle=False)
        if member.read(1):
            raise ValueError(f"array {key!r} has more bytes than its shape {array.shape} takes")
    return array


def _texts(names: NDArray[Any]) -> list[str]:
    """Convert an array of strings to class names."""
    if names.dtype.kind not in "US" or names.ndim > 1:
        kind = f"{names.dtype} {names.shape}"
        raise ValueError(f"class_names are {kind}, wanted (num_classes,) strings")
    as_text = np.char.decode(names, "utf-8") if names.dtype.kind == "S" else names
    return [str(name) for name in np.atleast_1d(as_text)]


def _checked_labels(
    path: str, labels: NDArray[Any], num_images: int, class_names: list[str] | None
) -> NDArray[np.int64]:
    """Return (num_images,) labels as int64; raise SourceError if they are out of range."""
    if labels.dtype.kind not in "iu" or labels.shape != (num_images,):
        kind = f"{labels.dtype} {labels.shape}"
        raise SourceError(f"{path}: labels are {kind}, wanted ({num_images},) integers.")
    num_classes = np.iinfo(np.int64).max if class_names is None else len(class_names)
    if num_images and (labels.min() < 0 or labels.max() >= num_classes):
        span = f"{labels.min()} to {labels.max()}"
        raise SourceError(f"{path}: labels go from {span}, wanted 0 to {num_classes - 1}.")
    return labels.astype(np.int64)
