"""Images of a benchmark run: a given `.beton` file, or one written for the run.

The run writes a file from a folder of JPEGs, an array file or drawn images.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ffcv_ssl.errors import ConfigError
from ffcv_ssl.fields import IntField, RGBImageField
from ffcv_ssl.fields.image import MODE_RAW
from ffcv_ssl.reader import Reader
from ffcv_ssl.writer import DatasetWriter

MAX_RESOLUTION, JPEG_QUALITY = 500, 90
DRAWN_SIZE = (375, 500)  # the median of ImageNet
PATCHED_SIZE = (32, 32)


@dataclass(frozen=True)
class Images:
    """Images of one file.

    Parameters
    ----------
    path
        The `.beton` file.
    field
        Name of the image field.
    fields
        Names of all fields.
    count
        Number of images used.
    text
        Description for the tables.
    is_raw
        Whether the images are stored as pixels.
    """

    path: Path
    field: str
    fields: list[str]
    count: int
    text: str
    is_raw: bool


class JpegFolder(Sequence[tuple[str, int]]):
    """Paths of at most `count` JPEGs of a folder, searched recursively; every label is 0."""

    def __init__(self, folder: Path, count: int):
        self.paths = sorted(
            path for path in folder.rglob("*") if path.suffix.lower() in {".jpg", ".jpeg"}
        )[:count]
        if not self.paths:
            raise ConfigError(f"{folder}: no .jpg or .jpeg file in this folder or below.")

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[str, int]:
        return str(self.paths[index]), 0


class DrawnPhotos(Sequence[tuple[np.ndarray, int]]):
    """`count` synthetic images with about the detail of a photo.

    Each sums six octaves of noise and takes 50 kB as a JPEG of quality 90.
    """

    def __init__(self, count: int, size: tuple[int, int] = DRAWN_SIZE):
        self.count, self.size = count, size

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        rng = np.random.default_rng(range(self.count)[index])
        height, width = self.size
        total = np.full((height, width, 3), 128, dtype=np.float32)
        for octave in range(6):
            cells = rng.integers(0, 256, (3 << octave, 4 << octave, 3), dtype=np.uint8)
            layer = np.asarray(
                Image.fromarray(cells).resize((width, height), Image.Resampling.BICUBIC),
                dtype=np.float32,
            )
            total += (layer - 128) * 0.6 / 1.25**octave
        return np.clip(total, 0, 255).astype(np.uint8), 0


class ArrayImages(Sequence[tuple[np.ndarray, int]]):
    """The first `count` images of an `.npz` file.

    The file holds a (N, H, W, 3) uint8 array named `images`, or as its first array.
    """

    def __init__(self, path: Path, count: int):
        with np.load(path) as arrays:
            name = "images" if "images" in arrays.files else arrays.files[0]
            self.images = arrays[name][:count]
        if self.images.ndim != 4 or self.images.shape[-1] != 3 or self.images.dtype != np.uint8:
            raise ConfigError(
                f"{path}: array '{name}' is {self.images.dtype} {self.images.shape}; "
                "expected uint8 (N, H, W, 3)."
            )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        return self.images[index], 0


def photos(source: Path | None, folder: Path, count: int) -> Images:
    """Return at most `count` JPEG images.

    They come from a `.beton` file, from a folder of JPEGs, or are drawn. Folders and drawn images
    are written to `folder` with longest side 500, quality 90 and restart markers.
    """
    if source is not None and source.is_file():
        return stored_images(source, count, "as the file has them")
    path = folder / "photos.beton"
    field = RGBImageField(
        write_mode="jpg",
        max_resolution=MAX_RESOLUTION,
        jpeg_quality=JPEG_QUALITY,
        reencode="always",
    )
    write(path, field, JpegFolder(source, count) if source else DrawnPhotos(count))
    return stored_images(
        path,
        count,
        f"{'photos' if source else 'drawn'}, longest side {MAX_RESOLUTION}, q{JPEG_QUALITY}",
    )


def patches(source: Path | None, folder: Path, count: int) -> Images:
    """Return at most `count` small raw images from a `.beton` file or `.npz` file, or drawn."""
    if source is not None and source.suffix != ".npz":
        return stored_images(source, count, "as the file has them")
    path = folder / "patches.beton"
    write(
        path,
        RGBImageField(write_mode="raw"),
        ArrayImages(source, count) if source else DrawnPhotos(count, PATCHED_SIZE),
    )
    return stored_images(path, count, f"{source.stem if source else 'drawn'}, raw")


def write(path: Path, field: RGBImageField, dataset: Sequence[Any]) -> float:
    """Write images and labels with all available cores; return the elapsed seconds."""
    began = time.perf_counter()
    DatasetWriter(
        str(path), {"image": field, "label": IntField()}, progress=False
    ).from_indexed_dataset(dataset)
    return time.perf_counter() - began


def stored_images(path: Path, count: int, kind: str) -> Images:
    """Return the first `count` images of the first image field of a file."""
    with Reader(str(path)) as reader:
        fields = list(reader.fields)
        field = next(
            (name for name in fields if isinstance(reader.fields[name], RGBImageField)), None
        )
        if field is None:
            raise ConfigError(f"{path}: no image field. Fields: {', '.join(fields)}.")
        count = min(count, reader.num_samples)
        records, sizes = reader.records[field][:count], reader.extents(field)[1][:count]
        width, height = (int(np.median(records[side])) for side in ("width", "height"))
        text = f"{count:,} images, {kind}, median {width}x{height}, {sizes.mean() / 1000:.1f} kB"
    return Images(
        path.resolve(), field, fields, count, text, bool((records["mode"] == MODE_RAW).all())
    )
