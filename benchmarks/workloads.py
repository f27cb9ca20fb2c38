"""The two things that are measured: which file, which views of it."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from pillow_views import EMP_SSL_32, SIMCLR_224, ViewChain

from ffcv_ssl.fields import IntField, RGBImageField
from ffcv_ssl.reader import Reader
from ffcv_ssl.writer import DatasetWriter

MAX_RESOLUTION, JPEG_QUALITY = 500, 90
DRAWN_SIZE = (375, 500)  # the median of ImageNet
EMP_VIEWS = 20


@dataclass(frozen=True)
class Workload:
    """A file and the views that every contestant makes of each of its images.

    `preset` names our pipeline (`contestants.py`), `chain` is the same in Pillow.
    """

    name: str
    path: Path
    preset: str
    num_views: int
    chain: ViewChain
    batch_size: int
    images: str


class JpegFolder(Sequence):
    """All JPEGs below a folder, `count` at most; labels are 0."""

    def __init__(self, folder: Path, count: int):
        self.paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in {".jpg", ".jpeg"})[:count]
        if not self.paths:
            raise SystemExit(f"{folder}: no .jpg or .jpeg below this folder.")

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[str, int]:
        return str(self.paths[index]), 0


class DrawnPhotos(Sequence):
    """`count` drawn images with about the detail of a photo: noise of six octaves, 50 kB each as JPEG of quality 90."""

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
            layer = np.asarray(Image.fromarray(cells).resize((width, height), Image.Resampling.BICUBIC), dtype=np.float32)
            total += (layer - 128) * 0.6 / 1.25**octave
        return np.clip(total, 0, 255).astype(np.uint8), 0


class ArrayImages(Sequence):
    """(N, H, W, 3) uint8 images, the first `count` of the array `images` (or the first array) of an .npz file."""

    def __init__(self, path: Path, count: int):
        with np.load(path) as arrays:
            name = "images" if "images" in arrays.files else arrays.files[0]
            self.images = arrays[name][:count]
        if self.images.ndim != 4 or self.images.shape[-1] != 3 or self.images.dtype != np.uint8:
            raise SystemExit(f"{path}: '{name}' is {self.images.dtype} {self.images.shape}; wanted uint8 (N, H, W, 3).")

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        return self.images[index], 0


def simclr_workload(data: Path | None, folder: Path, count: int) -> Workload:
    """Two 224x224 views of JPEGs: of a .beton file, of a folder of JPEGs (500 pixels, quality 90) or of drawn images."""
    path = data if data is not None and data.suffix == ".beton" else folder / "simclr.beton"
    if path != data:
        dataset = JpegFolder(data, count) if data else DrawnPhotos(count)
        field = RGBImageField(write_mode="jpg", max_resolution=MAX_RESOLUTION, jpeg_quality=JPEG_QUALITY, reencode="always")
        write(path, field, dataset)
    kind = "JPEGs of the file given" if path == data else ("photos, 500 px, q90" if data else "drawn, q90")
    return Workload("SimCLR, 2 views of 224x224", path, "simclr", 2, SIMCLR_224, 32, _images_of(path, kind))


def emp_ssl_workload(data: Path | None, folder: Path, count: int) -> Workload:
    """20 patches of 16x16, enlarged to 32x32, of raw 32x32 images: of an .npz file or drawn."""
    path = folder / "emp_ssl.beton"
    dataset = ArrayImages(data, count) if data else DrawnPhotos(count, (32, 32))
    write(path, RGBImageField(write_mode="raw"), dataset)
    kind = f"{'given' if data else 'drawn'}, raw"
    return Workload(f"EMP-SSL, {EMP_VIEWS} patches 16→32", path, "emp_ssl", EMP_VIEWS, EMP_SSL_32, 100, _images_of(path, kind))


def write(path: Path, field: RGBImageField, dataset: Sequence) -> float:
    """Write a file of images and labels, with all allowed cores, and return the seconds that it took."""
    began = time.perf_counter()
    DatasetWriter(str(path), {"image": field, "label": IntField()}, progress=False).from_indexed_dataset(dataset)
    return time.perf_counter() - began


def _images_of(path: Path, kind: str) -> str:
    """Say how many images there are, of which median size, and how many bytes each takes."""
    with Reader(str(path)) as reader:
        records = reader.records["image"]
        sizes = reader.extents("image")[1]
        width, height = (int(np.median(records[side])) for side in ("width", "height"))
        return f"{reader.num_samples:,} images, {kind}, median {width}x{height}, {sizes.mean() / 1000:.1f} kB"
