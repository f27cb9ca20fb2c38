"""Shared code of the Pillow and torchvision contestants: stored images in a DataLoader."""

import io
from collections.abc import Callable, Iterator
from typing import Any

import torch
from protocol import Batches
from stored import StoredImages

Chain = Callable[[Any], torch.Tensor]


class StoredViews(torch.utils.data.Dataset[tuple[torch.Tensor, ...]]):
    """Dataset of the views of each position of an epoch.

    An item is a tuple of (V, 3, S, S) uint8 tensors, one for each size, or one (3, S, S) tensor for
    a single view.
    """

    def __init__(self, job: dict[str, Any], chains: list[tuple[Chain, int]]):
        self.job, self.chains = job, chains
        self.images: StoredImages | None = None

    def __len__(self) -> int:
        return self.job["num_images"]

    def __getitem__(self, index: int) -> tuple[torch.Tensor, ...]:
        from PIL import Image

        if self.images is None:  # each worker process maps the file itself
            self.images = StoredImages(self.job["path"], self.job["field"])
        values = self.images.stored(index % self.job["stored"])
        image = (
            Image.fromarray(values)
            if values.ndim == 3
            else Image.open(io.BytesIO(values)).convert("RGB")
        )
        if self.job["num_views"] == 1:
            return (self.chains[0][0](image),)
        return tuple(
            torch.stack([chain(image) for _ in range(count)]) for chain, count in self.chains
        )


class Shuffled(torch.utils.data.Sampler[int]):
    """Positions of an epoch in a new random order, until the end or until `is_ended` is set."""

    def __init__(self, count: int):
        self.count, self.is_ended = count, False

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[int]:
        self.is_ended = False
        for position in torch.randperm(self.count).tolist():
            if self.is_ended:
                return
            yield position


class DataLoaderContestant:
    """Contestant with torch's DataLoader.

    Its worker processes persist between epochs, so their start is not timed.
    """

    def __init__(self) -> None:
        self.lacks: list[str] = []
        self.notes: list[str] = []

    def make_chains(self, views: list[dict[str, Any]]) -> Iterator[Chain]:
        """Return the transforms of each entry of `job["views"]`."""
        raise NotImplementedError

    def prepare(self, job: dict[str, Any]) -> None:
        counts = [view["count"] for view in job["views"]]
        chains = list(zip(self.make_chains(job["views"]), counts, strict=True))
        self.order = Shuffled(job["num_images"])
        self.loader = torch.utils.data.DataLoader(
            StoredViews(job, chains),
            job["batch_size"],
            sampler=self.order,
            num_workers=job["workers"],
            persistent_workers=True,
        )

    def batches(self) -> Batches:
        epoch = iter(self.loader)
        try:
            for views in epoch:
                yield len(views[0]), list(views)
        except GeneratorExit:
            self.order.is_ended = True
            for _ in epoch:  # drain the prefetched batches
                pass
            raise
