"""Interface between the engine and the code that renders the views of one image field."""

from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from ffcv_ssl.loader.engine.buffers import BufferPool
from ffcv_ssl.loader.engine.threads import Engine
from ffcv_ssl.loader.render.decode import ImageDecoder
from ffcv_ssl.loader.render.parameters import BatchParameters
from ffcv_ssl.pipeline.plan import ImagePlan


class RenderedBatch(Protocol):
    """Views of one image field in a batch.

    Attributes
    ----------
    parameters
        Parameters of the views.
    """

    parameters: BatchParameters

    def seal(self) -> None:
        """End the writing; called once, by the thread that filled the last position."""

    def tensors(self) -> list[torch.Tensor]:
        """Return the views in the order of the plan's tensors; called once, by the consumer."""


class Renderer(Protocol):
    """Decoder and renderer of one image field: `CpuRenderer` or `GpuRenderer`.

    Attributes
    ----------
    plan
        Views of the field.
    decoder
        Decoder of the field.
    """

    plan: ImagePlan
    decoder: ImageDecoder

    @property
    def num_pixels(self) -> int:
        """Work of the threads per sample, in pixels of views."""

    @property
    def output_device(self) -> torch.device:
        """Device of the finished views."""

    def prepare(self, engine: Engine) -> None:
        """Do the work that must precede the first batch."""

    def draw(
        self,
        seed: int,
        epoch: int,
        sample_ids: NDArray[np.int64],
        occurrences: NDArray[np.int64] | None = None,
    ) -> BatchParameters:
        """Draw the parameters of some samples; arguments as in `Keys`."""

    # `Any`: a batch is always of the type that the same renderer allocates.
    def allocate(self, parameters: BatchParameters, pool: BufferPool) -> Any:
        """Allocate memory for a batch, a `RenderedBatch`."""

    def fill(self, batch: Any, sample_ids: NDArray[np.int64], start: int) -> None:
        """Decode, and on the CPU render, samples (n,) at the positions from `start` on.

        Worker threads call this method. It raises SampleError if a sample cannot be read or
        decoded.
        """
