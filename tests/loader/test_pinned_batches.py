"""The bits of whole epochs, as they have been since `pinned_batches.json` was written.

`python -m tests.loader.test_pinned_batches` writes that file anew. Do so only where a change of
pixels, order or parameters is meant, and say so in the change log.
"""

import io
import json
import sys
import tempfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ffcv_ssl import views
from ffcv_ssl.fields import IntField, JSONField, NDArrayField
from ffcv_ssl.fields.image import RGBImageField
from ffcv_ssl.loader import Loader, OrderOption
from ffcv_ssl.transforms import (
    CenterCrop,
    Convert,
    FixedPatchCrop,
    MultiView,
    NormalizeImage,
    RandomColorJitter,
    RandomHorizontalFlip,
    RandomResizedCrop,
    Resize,
    ToTorchImage,
)
from ffcv_ssl.writer import DatasetWriter

PINNED = Path(__file__).with_name("pinned_batches.json")
MEAN_STD = ((120.0, 115.0, 105.0), (60.0, 59.0, 61.0))
NUM_SAMPLES = 22

PIPELINES = {
    "stored": [],
    "plain": views.plain(24),
    "resize": [Resize((19, 30))],
    "center crop, normalized": [CenterCrop(20), NormalizeImage(*MEAN_STD, np.float16)],
    "flip": [RandomResizedCrop(16), RandomHorizontalFlip(0.5)],
    "channels last, float": [RandomResizedCrop(16), ToTorchImage(), Convert(torch.float32)],
    "bicubic": [RandomResizedCrop(18, interpolation="bicubic")],
    "patches in a grid": [
        MultiView([[FixedPatchCrop(16, patch=12, place=(y, 0.5))] for y in (0.0, 0.4, 1.0)])
    ],
    "simclr": views.simclr(24),
    "simclr, normalized": views.simclr(24, normalize=MEAN_STD),
    "byol": views.byol(20),
    "emp_ssl": views.emp_ssl(n=6),
    "multi_crop": views.multi_crop((24, 12), counts=(2, 3)),
    "two passes": [
        RandomResizedCrop(16),
        RandomColorJitter(0.8, 0.4, 0.4, 0.4, 0.1),
        RandomHorizontalFlip(0.5),
        RandomColorJitter(1.0, 0.2),
    ],
}
OPTIONS = {
    "random": {"order": OrderOption.RANDOM},
    "quasi-random": {"order": OrderOption.QUASI_RANDOM},
    "rank 1 of 3": {"order": OrderOption.RANDOM, "rank": 1, "world_size": 3},
    "in memory": {"cache": "ram"},
    "decode whole": {"decode": "full"},
    "repeats": {"indices": [3, 3, 5, 3, 8], "order": OrderOption.RANDOM},
    "weights": {"weights": np.arange(NUM_SAMPLES), "order": OrderOption.RANDOM},
    "balanced": {"balanced": "label", "order": OrderOption.RANDOM},
    "in this thread": {"num_workers": 0},
}


def integer_image(height, width, seed):
    """(height, width, 3) uint8: a ramp, waves and edges, made of integers alone."""
    y, x = np.mgrid[:height, :width]
    a, b, c = 3 + seed % 5, 2 + seed % 7, 11 + seed
    wave = (y * y * a + x * x * b + x * y) // c % 512
    edges = ((y // a + x // b) % 2) * 120 + y * 100 // height
    return np.stack(
        (np.abs(wave - 256) // 2 + 64, edges, (x * 255 // width + seed * 9) % 256), axis=2
    ).astype(np.uint8)


def write_files(folder):
    """JPEGs of many sizes, and raw images of one; return both paths."""
    jpegs, raws = [], []
    for seed in range(NUM_SAMPLES):
        buffer = io.BytesIO()
        Image.fromarray(integer_image(34 + seed, 61 - seed, seed)).save(buffer, "JPEG", quality=90)
        jpegs.append(
            (buffer.getvalue(), seed % 3, np.arange(4, dtype="<f4") * seed, {"seed": seed})
        )
        raws.append((integer_image(32, 37, seed), seed % 3))
    fields = {
        "image": RGBImageField(write_mode="jpg"),
        "label": IntField(),
        "vector": NDArrayField(np.dtype("<f4"), (4,)),
        "note": JSONField(),
    }
    for name, some, samples in (
        ("jpeg", fields, jpegs),
        ("raw", {"image": RGBImageField(write_mode="raw"), "label": IntField()}, raws),
    ):
        DatasetWriter(
            folder / f"{name}.beton", some, num_workers=0, progress=False
        ).from_indexed_dataset(samples)
    return {name: str(folder / f"{name}.beton") for name in ("jpeg", "raw")}


def checksum(path, pipeline, **options):
    """CRC-32 of all arrays, texts and parameters of two epochs, in their order."""
    options = {
        "batch_size": 4,
        "num_workers": 2,
        "seed": 7,
        "drop_last": False,
        "with_ids": True,
        "with_params": True,
        **options,
    }
    found = 0
    with Loader(path, pipelines={"image": pipeline}, **options) as loader:
        for batch in [*loader, *loader]:
            tables = [batch.params[name].values for name in sorted(batch.params)]
            for value in [batch.ids, *batch, *tables]:
                for part in value if isinstance(value, tuple) else [value]:
                    found = zlib.crc32(as_bytes(part), found)
    return found


def as_bytes(value):
    """The bytes of a tensor, an array or something else that can be printed."""
    if isinstance(value, torch.Tensor):
        value = value.numpy()
    return value.tobytes() if isinstance(value, np.ndarray) else repr(value).encode()


def cases(paths):
    """Yield name and checksum function of every pipeline, and of SimCLR under every option."""
    for kind, path in paths.items():
        for name, pipeline in PIPELINES.items():
            if kind == "raw" or name != "stored":
                yield (
                    f"{kind}: {name}",
                    lambda path=path, pipeline=pipeline: checksum(path, pipeline),
                )
        for name, options in OPTIONS.items():
            yield (
                f"{kind}: simclr, {name}",
                lambda path=path, options=options: checksum(path, views.simclr(24), **options),
            )


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    return write_files(tmp_path_factory.mktemp("pinned"))


def test_files__are_written_with_the_same_bytes(paths):
    """The writer's bytes are pinned too."""
    pinned = json.loads(PINNED.read_text())
    assert {name: zlib.crc32(Path(path).read_bytes()) for name, path in paths.items()} == pinned[
        "files"
    ]


def test_batches__have_the_pinned_bits(paths):
    """No pixel, label, order or parameter has changed."""
    pinned = json.loads(PINNED.read_text())["batches"]
    found = {name: make() for name, make in cases(paths)}
    assert found == pinned


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        written = write_files(Path(folder))
        files = {name: zlib.crc32(Path(path).read_bytes()) for name, path in written.items()}
        PINNED.write_text(
            json.dumps(
                {"files": files, "batches": {name: make() for name, make in cases(written)}},
                indent=1,
            )
            + "\n"
        )
    sys.stdout.write(f"{PINNED}\n")
