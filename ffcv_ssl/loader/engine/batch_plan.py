"""Contents of every batch of a loader."""

from dataclasses import dataclass, field

import torch

from ffcv_ssl.errors import SampleError
from ffcv_ssl.loader.render.renderer import Renderer
from ffcv_ssl.loader.values import ValueReader


@dataclass(frozen=True)
class BatchPlan:
    """Plan of every batch of a loader.

    Parameters
    ----------
    seed
        Seed of the augmentations.
    images
        Renderer of each stored image field.
    values
        Reader of each other field.
    names
        Fields of the batch, in order.
    with_ids, with_params, on_error
        Arguments of `Loader`.
    failures
        Samples that could not be read, in the order in which the loader met them.
    """

    seed: int
    images: tuple[Renderer, ...]
    values: tuple[ValueReader, ...]
    names: tuple[str, ...]
    with_ids: bool
    with_params: bool
    on_error: str
    failures: list[SampleError] = field(default_factory=list)

    @property
    def num_pixels(self) -> int:
        """Work of the threads per sample, in pixels of views."""
        return sum(image.num_pixels for image in self.images)

    @property
    def device(self) -> torch.device:
        """Device of the views; fields without a pipeline are moved to it too."""
        return self.images[0].output_device if self.images else torch.device("cpu")
