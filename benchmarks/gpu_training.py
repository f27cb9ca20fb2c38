"""Does a model wait for views that the GPU renders, and does memory stay flat? The part of `gpu_views.py` that begins with a file."""

import itertools
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ffcv_ssl.benchmarks.images import JPEG_QUALITY, DrawnPhotos
from ffcv_ssl.codecs.encode import encode_jpeg
from ffcv_ssl.fields import IntField, RGBImageField
from ffcv_ssl.loader import Loader, OrderOption
from ffcv_ssl.loader.render.gpu_device import Device
from ffcv_ssl.ssl.backbones import backbone
from ffcv_ssl.transforms import ToDevice
from ffcv_ssl.views import emp_ssl, simclr
from ffcv_ssl.writer import DatasetWriter

SIZE = 32, 32
NORMALIZE = ([125.3, 123.0, 113.9], [63.0, 62.1, 66.7])
WARM_STEPS = 5


def write_files(folder: Path) -> tuple[Path, Path]:
    """Write 10,000 raw images of 32 x 32, and 4,096 JPEGs, of which 64 are different; both with a label."""
    patched, photos = folder / "patched.beton", folder / "photos.beton"
    noise = np.random.default_rng(0).integers(0, 256, (10_000, *SIZE, 3), dtype=np.uint8)
    write(patched, "raw", list(noise))
    drawn = [encode_jpeg(DrawnPhotos(64)[i][0], JPEG_QUALITY) for i in range(64)]
    write(photos, "jpg", drawn * 64)
    return patched, photos


def write(path: Path, mode: str, images: list[Any]) -> None:
    """Write images and their numbers, in this process: one with a GPU should not fork."""
    fields = {"image": RGBImageField(mode, check="header"), "label": IntField()}
    DatasetWriter(path, fields, num_workers=0, progress=False).from_indexed_dataset([(image, i) for i, image in enumerate(images)])


def measure_training(device: Device, folder: Path, steps: int) -> list[dict]:
    """Return images per second and stall of two models behind the loader."""
    patched, photos = write_files(folder)
    half = {"normalize": NORMALIZE, "dtype": "bfloat16"}
    runs = [
        ("emp20, ResNet-18", patched, 100, emp_ssl(n=20, **half), backbone("resnet18", stem="cifar"), 0.01),
        ("simclr2, ResNet-50", photos, 256, simclr(224, **half), backbone("resnet50"), None),
    ]
    results = []
    for name, path, batch_size, pipeline, model, goal in runs:
        pipelines = {"image": [ToDevice(device.device), *pipeline]}
        with Loader(path, batch_size, order=OrderOption.RANDOM, seed=0, pipelines=pipelines) as loader:
            row = {"name": name, "goal": goal, **train(loader, model.to(device.device), steps)}
        results.append(row)
        print(f"{name:24}{row['images_per_s']:12,.0f} images/s  stall {row['stall']:.1%}", flush=True)
    return results


def train(loader: Loader, model: torch.nn.Module, steps: int) -> dict[str, float]:
    """Time steps behind the loader, over as many epochs as they take, and as many with one batch."""
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)

    def step(views: torch.Tensor) -> None:
        with torch.autocast("cuda", torch.bfloat16):
            loss = model(views.flatten(0, 1)).float().square().mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    def timed(batches: Iterator[Any]) -> float:
        for batch in itertools.islice(batches, WARM_STEPS):
            step(batch.image)
        torch.cuda.synchronize()
        started = time.perf_counter()
        for batch in itertools.islice(batches, steps):
            step(batch.image)
        torch.cuda.synchronize()
        return (time.perf_counter() - started) / steps

    batches = itertools.chain.from_iterable(itertools.repeat(loader))
    alone = timed(itertools.repeat(next(batches)))
    behind = timed(batches)
    return {"images_per_s": loader.batch_size / behind, "stall": max(0.0, 1 - alone / behind), "step_s": alone}


def measure_memory(device: Device, folder: Path) -> dict[str, int]:
    """Return what torch has reserved on the GPU after 50 and after 1,050 batches, and how often it asked CUDA for memory in between."""
    pipelines = {"image": [ToDevice(device.device), *emp_ssl(n=20)]}
    with Loader(folder / "patched.beton", 100, order=OrderOption.RANDOM, seed=0, pipelines=pipelines, cache="device") as loader:
        batches = itertools.chain.from_iterable(itertools.repeat(loader))
        marks = []
        for count in (50, 1000):
            for _ in itertools.islice(batches, count):
                pass
            used = torch.cuda.memory_stats(device.device)
            marks.append((used["reserved_bytes.all.current"], used["num_device_alloc"]))
    (before, calls_before), (after, calls_after) = marks
    print(f"memory: {before / 1e6:,.0f} MB after 50 batches, {after / 1e6:,.0f} MB after 1,050, {calls_after - calls_before} allocations")
    return {"after_50": before, "after_1050": after, "allocations": calls_after - calls_before}
