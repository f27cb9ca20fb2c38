"""What the engine needs of the code that renders one image field."""

from typing import Any, Protocol

import numpy as np
import torch

from ffcv_ssl.loader.engine.buffers import BufferPool
from ffcv_ssl.loader.engine.threads import Engine
from ffcv_ssl.loader.render.decode import ImageDecoder
from ffcv_ssl.loader.render.parameters import BatchParameters
from ffcv_ssl.pipeline.plan import ImagePlan


class RenderedBatch(Protocol):
    """One field's part of a batch."""

    parameters: BatchParameters

    def seal(self) -> None:
        """End the writing; called once, by the thread that filled the last position."""

    def tensors(self) -> list[torch.Tensor]:
        """Return the views in the order of the plan's tensors; called once, by the thread that takes the batch."""


class Renderer(Protocol):
    """Decodes the images of one field and renders their views: `CpuRenderer` or `GpuRenderer`."""

    plan: ImagePlan
    decoder: ImageDecoder

    @property
    def num_pixels(self) -> int:
        """Work of the threads per sample, in pixels of views."""

    @property
    def output_device(self) -> torch.device:
        """Device of the finished views."""

    def prepare(self, engine: Engine) -> None:
        """Do what must be done before the first batch."""

    def draw(
        self, seed: int, epoch: int, sample_ids: np.ndarray, occurrences: np.ndarray | None = None
    ) -> BatchParameters:
        """Draw the parameters of some samples; `occurrences` as in `Keys`."""

    def allocate(self, parameters: BatchParameters, pool: BufferPool) -> Any:
        """Take memory for a batch: a `RenderedBatch`."""

    def fill(self, batch: Any, sample_ids: np.ndarray, start: int) -> None:
        """Make samples (n,) at positions from `start` on, in a thread; SampleError where one cannot be read or decoded."""
