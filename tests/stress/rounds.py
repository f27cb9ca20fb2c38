"""Rounds of the soak test: typical uses of loaders with their expected results."""

from __future__ import annotations

import json
import pickle
import random
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from ffcv_ssl.beton import BetonReader, DatasetWriter
from ffcv_ssl.beton.format.layout import MIN_PAGE_SIZE
from ffcv_ssl.errors import SampleError
from ffcv_ssl.fields import IntField, JSONField, RGBImageField
from ffcv_ssl.loader import Loader, OrderOption
from ffcv_ssl.transforms import RandomHorizontalFlip, RandomResizedCrop
from tests.reference.images import photo_like
from tests.reference.jpeg import encode

NUM_SAMPLES = 64
DAMAGED = (5, 17, 40)  # samples of the second file
MAX_THREADS = 4


class Injected(Exception):
    """Error of a user's transform."""


class Soak:
    """Files and random rounds over them; the same seed gives the same rounds.

    Parameters
    ----------
    folder
        Folder for the files.
    seed
        Random seed of the rounds.
    """

    def __init__(self, folder: Path, seed: int):
        self._rng = random.Random(seed)
        self.good, self.damaged = write_files(folder)
        self.rounds: Counter[str] = Counter()
        self.acts: list[Callable[[], None]] = [
            self.whole_epoch, self.left_early, self.damaged_samples, self.failing_transform,
            self.pickled_copy, self.two_at_once, self.resumed, self.dropped,
        ]  # fmt: skip

    def round(self) -> None:
        """Run one random use."""
        act = self._rng.choice(self.acts)
        act()
        self.rounds[act.__name__] += 1

    def whole_epoch(self) -> None:
        """Read two complete epochs."""
        with self._loader(self.good) as loader:
            for _ in range(2):
                if sum(len(batch.label) for batch in loader) != NUM_SAMPLES:
                    raise AssertionError("an epoch lacks samples")

    def left_early(self) -> None:
        """Stop epochs after a few batches, sometimes with reuse of the loader."""
        with self._loader(self.good) as loader:
            for _ in range(self._rng.randint(1, 3)):
                for number, _ in enumerate(loader):
                    if number == self._rng.randint(0, 3):
                        break

    def damaged_samples(self) -> None:
        """Read a file with three damaged samples under each `on_error`."""
        on_error = self._rng.choice(("skip", "substitute", "raise"))
        with self._loader(self.damaged, on_error=on_error) as loader:
            try:
                count = sum(len(batch.label) for batch in loader)
            except SampleError as error:
                if on_error != "raise" or error.sample_id not in DAMAGED:
                    raise
            else:
                if on_error == "raise" or count != NUM_SAMPLES - len(DAMAGED) * (
                    on_error == "skip"
                ):
                    raise AssertionError(f"{count} samples under on_error={on_error!r}")

    def failing_transform(self) -> None:
        """Raise an error in a stage in the middle of an epoch, then reuse the loader."""
        stage = Failing(self._rng.randint(1, 4))
        with self._loader(self.good, stages=[stage]) as loader:
            try:
                for _ in loader:
                    pass
            except Injected:
                stage.left = 1 << 30
            else:
                raise AssertionError("the error of a stage was not raised")
            next(iter(loader))

    def pickled_copy(self) -> None:
        """Check that a pickled copy renders the batches of its original."""
        with self._loader(self.good) as loader, pickle.loads(pickle.dumps(loader)) as copy:
            for mine, other in zip(loader, copy, strict=True):
                if checksum(mine.image) != checksum(other.image):
                    raise AssertionError("a pickled copy renders other pixels")

    def two_at_once(self) -> None:
        """Alternate between two loaders and between two iterators of one of them."""
        with (
            self._loader(self.good) as first,
            self._loader(self.damaged, on_error="skip") as second,
        ):
            iterators = [iter(first), iter(second), iter(first)]
            for _ in range(2):
                for iterator in iterators:
                    next(iterator)

    def resumed(self) -> None:
        """Resume an interrupted epoch in another loader."""
        options = {"seed": 3, "order": OrderOption.RANDOM}
        with self._loader(self.good, **options) as loader:
            iterator = iter(loader)
            next(iterator)
            state = json.loads(json.dumps(loader.state_dict()))
        with self._loader(self.good, **options) as loader:
            loader.load_state_dict(state)
            for _ in loader:
                pass

    def dropped(self) -> None:
        """Drop a loader in use without closing it."""
        iterator = iter(self._loader(self.good))
        next(iterator)
        del iterator

    def reference(self) -> int:
        """Return the checksum of a fixed epoch."""
        pipeline = [RandomResizedCrop((16, 16)), RandomHorizontalFlip()]
        total = 0
        with Loader(
            self.good, 8, 2, order=OrderOption.RANDOM, seed=7, pipelines={"image": pipeline}
        ) as loader:
            for batch in loader:
                total = checksum(batch.image, checksum(batch.label, total))
        return total

    def _loader(self, path: str, stages: list | None = None, **options) -> Loader:
        """Return a loader with random options."""
        rng = self._rng
        decode = rng.choice(("exact", "full"))
        chosen = {
            "batch_size": rng.choice((1, 5, 8, 16)),
            "num_workers": rng.randint(0, MAX_THREADS),
            "order": rng.choice(tuple(OrderOption)),
            "cache": rng.choice(("os", "ram", "auto")),
            "batches_ahead": rng.randint(1, 4),
            "seed": rng.randrange(100),
            "drop_last": False,
        }
        size = rng.choice((8, 16, 24))
        pipelines = {
            "image": [RandomResizedCrop((size, size)), RandomHorizontalFlip(), *(stages or [])]
        }
        return Loader(path, **{**chosen, "decode": decode, "pipelines": pipelines, **options})


class Failing:
    """Stage that raises an error at its n-th batch."""

    def __init__(self, left: int):
        self.left = left

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        self.left -= 1
        if self.left == 0:
            raise Injected("error of a user's transform")
        return images


def write_files(folder: Path) -> tuple[str, str]:
    """Write a file of JPEGs and one with three damaged JPEGs; return their paths."""
    fields = {"image": RGBImageField("jpg"), "label": IntField(), "note": JSONField()}
    images = [
        encode(photo_like(40 + i % 7, 61 - i % 11, i), restart_marker_rows=i % 2)
        for i in range(NUM_SAMPLES)
    ]
    paths = [str(folder / f"{name}.beton") for name in ("good", "damaged")]
    for path in paths:
        samples = [(image, i, {"i": i}) for i, image in enumerate(images)]
        DatasetWriter(path, fields, MIN_PAGE_SIZE, 0, progress=False).from_indexed_dataset(samples)
    with BetonReader(paths[1]) as reader:
        offsets = [
            int(sum(each[sample_id] for each in reader.extents("image"))) - 40
            for sample_id in DAMAGED
        ]
    with open(paths[1], "r+b") as file:
        for offset in offsets:
            file.seek(offset)
            file.write(b"\xff\xd9" * 10)
    return paths[0], paths[1]


def checksum(tensor: torch.Tensor, before: int = 0) -> int:
    """Return the CRC-32 of a tensor, continuing from `before`."""
    return zlib.crc32(np.ascontiguousarray(tensor.numpy()).data, before)
