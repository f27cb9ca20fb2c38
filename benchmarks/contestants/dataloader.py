"""What Pillow and torchvision share: a data set of stored images behind torch's DataLoader, as most PyTorch programs have it."""

import io
from collections.abc import Callable, Iterator
from typing import Any

import torch
from protocol import Batch
from stored import StoredImages

Chain = Callable[[Any], torch.Tensor]


class StoredViews(torch.utils.data.Dataset):
    """All views of one stored image: one (V, 3, S, S) uint8 tensor for every size, (3, S, S) for a single view."""

    def __init__(self, job: dict, chains: list[tuple[Chain, int]]):
        self.job, self.chains = job, chains
        self.images: StoredImages | None = None

    def __len__(self) -> int:
        return self.job["num_images"]

    def __getitem__(self, index: int) -> tuple[torch.Tensor, ...]:
        from PIL import Image

        if self.images is None:  # mapped by each worker process for itself
            self.images = StoredImages(self.job["path"], self.job["field"])
        values = self.images.stored(index)
        image = Image.fromarray(values) if values.ndim == 3 else Image.open(io.BytesIO(values)).convert("RGB")
        if self.job["num_views"] == 1:
            return (self.chains[0][0](image),)
        return tuple(torch.stack([chain(image) for _ in range(count)]) for chain, count in self.chains)


class DataLoaderContestant:
    """A chain behind torch's DataLoader; its worker processes live on between epochs, so their start is not counted."""

    def __init__(self):
        self.lacks: list[str] = []
        self.notes: list[str] = []

    def make_chains(self, views: list[dict]) -> Iterator[Chain]:
        """The chain of each entry of `job["views"]`."""
        raise NotImplementedError

    def prepare(self, job: dict) -> None:
        counts = [view["count"] for view in job["views"]]
        chains = list(zip(self.make_chains(job["views"]), counts, strict=True))
        self.loader = torch.utils.data.DataLoader(
            StoredViews(job, chains), job["batch_size"], shuffle=True, num_workers=job["workers"], persistent_workers=True
        )

    def batches(self) -> Iterator[Batch]:
        for views in self.loader:
            yield len(views[0]), list(views)
