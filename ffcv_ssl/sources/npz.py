"""Images and labels as NumPy arrays in one `.npz` file.

| key | array |
|---|---|
| `images`, or `train_images` and `test_images` | (N, H, W, 3), (N, H, W, 1) or (N, H, W), uint8 |
| `labels`, or `train_labels` and `test_labels` (optional) | (N,), integers from 0 |
| `class_names` (optional) | (num_classes,), strings |

The keys with the name of the split go before those without.
"""

from __future__ import annotations

import numpy as np

from ffcv_ssl.errors import SourceError
from ffcv_ssl.sources.source import Source


def npz_arrays(path: str, split: str) -> Source:
    """Open one split of an `.npz` file.

    Raises
    ------
    SourceError
        If the file cannot be read (arrays of Python objects are not), or its arrays are not those of the table above.
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
    except Exception as error:  # whatever zipfile, its decompressors and NumPy's header parser raise
        reason = str(error) or type(error).__name__
        raise SourceError(f"{path}: not an .npz file of plain arrays: {reason}.") from error
    if images is None:
        raise SourceError(f"{path}: no array 'images' or '{split}_images'; it has {keys or 'none'}.")
    if images.dtype != np.uint8 or images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[3] not in (1, 3)):
        raise SourceError(f"{path}: images are {images.dtype} {images.shape}, wanted uint8 (N, H, W, 3), (N, H, W, 1) or (N, H, W).")
    return Source(images, None if labels is None else _checked_labels(path, labels, len(images), class_names), class_names)


def _array(file: np.lib.npyio.NpzFile, *keys: str) -> np.ndarray | None:
    """The array under the first key that is there, read to the end: then zipfile checks its CRC."""
    key = next((key for key in keys if key in file.files), None)
    if key is None:
        return None
    assert file.zip is not None  # it is open
    with file.zip.open(f"{key}.npy" if f"{key}.npy" in file.zip.namelist() else key) as member:
        array = np.lib.format.read_array(member, allow_pickle=False)
        if member.read(1):
            raise ValueError(f"array {key!r} has more bytes than its shape {array.shape} takes")
    return array


def _texts(names: np.ndarray) -> list[str]:
    """Class names of an array of strings."""
    if names.dtype.kind not in "US" or names.ndim > 1:
        raise ValueError(f"class_names are {names.dtype} {names.shape}, wanted (num_classes,) strings")
    as_text = np.char.decode(names, "utf-8") if names.dtype.kind == "S" else names
    return [str(name) for name in np.atleast_1d(as_text)]


def _checked_labels(path: str, labels: np.ndarray, num_images: int, class_names: list[str] | None) -> np.ndarray:
    if labels.dtype.kind not in "iu" or labels.shape != (num_images,):
        raise SourceError(f"{path}: labels are {labels.dtype} {labels.shape}, wanted ({num_images},) integers.")
    num_classes = np.iinfo(np.int64).max if class_names is None else len(class_names)
    if num_images and (labels.min() < 0 or labels.max() >= num_classes):
        raise SourceError(f"{path}: labels go from {labels.min()} to {labels.max()}, wanted 0 to {num_classes - 1}.")
    return labels.astype(np.int64)
