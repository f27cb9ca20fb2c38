"""Who makes the views: ffcv_ssl, Pillow in worker processes, and the plain decode that bounds them both."""

import io
import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
import simplejpeg
import torch
from PIL import Image
from workloads import EMP_VIEWS, Workload

from ffcv_ssl import views
from ffcv_ssl.loader import Loader, OrderOption
from ffcv_ssl.reader import Reader

RAW = 1  # image mode in the record: uncompressed pixels
PRESETS = {
    "simclr": lambda: views.simclr(size=224),
    "emp_ssl": lambda: views.emp_ssl(n=EMP_VIEWS, patch=16, size=32),
}


@dataclass(frozen=True)
class Contestant:
    """A name, a function that goes through one epoch and returns the number of images, and the views made of each image."""

    name: str
    epoch: Callable[[], int]
    num_views: int
    first_batch_s: float | None = None


class PillowViews(torch.utils.data.Dataset):
    """All views of one stored image, (V, 3, S, S) uint8, made by Pillow from the bytes in the file."""

    def __init__(self, workload: Workload):
        self.workload = workload
        self.reader: Reader | None = None
        with Reader(str(workload.path)) as reader:
            self.length = reader.num_samples

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> torch.Tensor:
        if self.reader is None:  # opened by each worker process for itself
            self.reader = Reader(str(self.workload.path))
        image = pillow_image(self.reader, index)
        rng = random.Random(torch.initial_seed() + index)
        return torch.from_numpy(np.stack([self.workload.chain(image, rng) for _ in range(self.workload.num_views)]))


def pillow_image(reader: Reader, index: int) -> Image.Image:
    """Decode one stored image with Pillow."""
    if reader.records["image"]["mode"][index] == RAW:
        return Image.fromarray(reader.value(index, "image"))
    return Image.open(io.BytesIO(reader.read(index, "image"))).convert("RGB")


def pillow(workload: Workload, num_workers: int) -> Contestant:
    """Pillow in the worker processes of torch's DataLoader, kept alive between epochs: the usual program of a torch user."""
    loader = torch.utils.data.DataLoader(
        PillowViews(workload),
        batch_size=workload.batch_size,
        shuffle=True,
        num_workers=num_workers,
        persistent_workers=True,
        multiprocessing_context="spawn",
    )
    return Contestant(f"Pillow, DataLoader, {num_workers} processes", lambda: sum(len(batch) for batch in loader), workload.num_views)


def ours(workload: Workload, num_workers: int, resources: ExitStack) -> Contestant:
    """Our loader, with its own threads."""
    began = time.perf_counter()
    loader = resources.enter_context(
        Loader(
            str(workload.path),
            batch_size=workload.batch_size,
            order=OrderOption.RANDOM,
            seed=0,
            num_workers=num_workers,
            drop_last=False,
            pipelines={"image": PRESETS[workload.preset]()},
        )
    )
    batches = iter(loader)
    shape = next(batches).image.shape
    first_batch_s = time.perf_counter() - began
    assert shape[1:3] == (workload.num_views, 3), shape
    for _ in batches:  # the rest of the epoch
        pass
    name = f"ffcv_ssl, {num_workers} threads"
    return Contestant(name, lambda: sum(len(batch.image) for batch in loader), workload.num_views, first_batch_s)


def plain_decode(workload: Workload, num_workers: int, resources: ExitStack) -> Contestant:
    """The decode of the same bytes and nothing else, from memory, in as many threads; raw pixels are copied."""
    with Reader(str(workload.path)) as reader:
        stored = [reader.read(index, "image") for index in range(reader.num_samples)]
        is_raw = bool((reader.records["image"]["mode"] == RAW).all())
    executor = resources.enter_context(ThreadPoolExecutor(num_workers))
    decode = np.array if is_raw else simplejpeg.decode_jpeg

    def decode_share(first: int) -> int:
        return sum(1 for data in stored[first::num_workers] if decode(data) is not None)

    what = "copy of the raw bytes" if is_raw else "plain decode (simplejpeg)"
    return Contestant(f"{what}, {num_workers} threads", lambda: sum(executor.map(decode_share, range(num_workers))), 0)
