"""Renderer of the views of one stored image field on the CPU."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ffcv_ssl.errors import PipelineError
from ffcv_ssl.kernels.cpu.scratch import Scratch
from ffcv_ssl.kernels.cpu.view import render_views
from ffcv_ssl.kernels.rows import NUM_COLUMNS
from ffcv_ssl.loader.engine.buffers import BufferPool, as_tensor, pinned_tensor
from ffcv_ssl.loader.engine.threads import Engine
from ffcv_ssl.loader.render.chunk import render_chunk
from ffcv_ssl.loader.render.decode import ImageDecoder
from ffcv_ssl.loader.render.parameters import BatchParameters, draw_parameters
from ffcv_ssl.pipeline.plan import IDENTITY_LUT, ImagePlan, TensorPlan
from ffcv_ssl.pipeline.table import ParameterTable


class CpuBatch:
    """Memory for the views of one field in a batch.

    The memory belongs to the pool, or is pinned if the finished views are moved to a GPU.

    Parameters
    ----------
    plan
        Views of the field.
    parameters
        Parameters of the views.
    pool
        Memory for batches.

    Attributes
    ----------
    arrays
        For each tensor of the plan the array that the kernels write, of shape `TensorPlan.shape`.
    """

    def __init__(self, plan: ImagePlan, parameters: BatchParameters, pool: BufferPool):
        self.parameters = parameters
        self.arrays: list[NDArray[Any]] = []
        self._tensors: list[torch.Tensor] = []
        for output in plan.outputs:
            for tensor_plan in output.tensors:
                shape = tensor_plan.shape(len(parameters.sample_ids))
                dtype = tensor_plan.lut.dtype
                if output.device.type == "cuda":
                    tensor = pinned_tensor(shape, tensor_plan.dtype)
                    array = (tensor.view(torch.uint16) if dtype == np.uint16 else tensor).numpy()
                else:
                    array = pool.allocate(shape, dtype)
                    tensor = as_tensor(array, tensor_plan.dtype)
                self._tensors.append(tensor)
                self.arrays.append(array)

    def seal(self) -> None:
        """End the writing; only the tensors refer to the memory from here on."""
        self.arrays = []

    def tensors(self) -> list[torch.Tensor]:
        """Return the views, in the order of the plan's tensors."""
        return self._tensors


class CpuRenderer:
    """Decoder and renderer of one image field on the CPU.

    Parameters
    ----------
    decoder
        Decoder of the field.
    plan
        Views of the field.

    Raises
    ------
    PipelineError
        If the decoder's mode is "fast", and the views have several dtypes or need several passes.
    """

    def __init__(self, decoder: ImageDecoder, plan: ImagePlan):
        self.decoder, self.plan = decoder, plan
        tensors = plan.tensors
        dtypes = {tensor.lut.dtype for tensor in tensors}
        # `render_chunk` renders views of one dtype in one pass.
        self._fits_one_chunk = len(dtypes) == 1 and all(
            tensor.num_passes == 1 for tensor in tensors
        )
        self._formats = tuple(
            (tensor.lut, np.array_equal(tensor.lut, IDENTITY_LUT), tensor.channels_last)
            for tensor in tensors
        )
        self._view_sizes = tuple(dict.fromkeys(tensor.size for tensor in tensors))
        # Later passes read finished views, so these are sources too.
        self._min_source = [max(size[axis] for size in self._view_sizes) for axis in (0, 1)]
        if decoder.mode == "fast" and not self._fits_one_chunk:
            raise PipelineError(
                f"{decoder.where}: decode='fast' needs views of one dtype, with crops first and "
                "transforms in the kernel's order."
            )

    @property
    def num_pixels(self) -> int:
        """Work per sample: number of pixels of all views."""
        return sum(
            tensor.num_views * tensor.size[0] * tensor.size[1] for tensor in self.plan.tensors
        )

    @property
    def output_device(self) -> torch.device:
        """Device of the finished views."""
        return self.plan.outputs[0].device

    def prepare(self, engine: Engine) -> None:
        """Do nothing: a CPU needs no work before the first batch."""

    def draw(
        self,
        seed: int,
        epoch: int,
        sample_ids: NDArray[np.int64],
        occurrences: NDArray[np.int64] | None = None,
    ) -> BatchParameters:
        """Draw the parameters of some samples; arguments as in `Keys`."""
        sizes, modes = self.decoder.sizes[sample_ids], self.decoder.modes[sample_ids]
        return draw_parameters(
            self.plan, self.decoder.mode, sizes, modes, seed, epoch, sample_ids, occurrences
        )

    def allocate(self, parameters: BatchParameters, pool: BufferPool) -> CpuBatch:
        """Allocate memory for a batch with these parameters."""
        return CpuBatch(self.plan, parameters, pool)

    def fill(self, batch: CpuBatch, sample_ids: NDArray[np.int64], start: int) -> None:
        """Decode samples and render their views into a batch.

        Parameters
        ----------
        batch
            Return value of `allocate`.
        sample_ids
            (n,) int64.
        start
            Position of the first sample in the batch.

        Raises
        ------
        SampleError
            If a sample cannot be read or decoded.
        """
        self.render(batch.parameters, batch.arrays, sample_ids, start)

    def render(
        self,
        parameters: BatchParameters,
        outs: Sequence[NDArray[Any]],
        sample_ids: NDArray[np.int64],
        start: int,
    ) -> None:
        """Decode samples and render their views into arrays.

        Parameters
        ----------
        parameters
            Parameters of the views of the batch.
        outs
            For each tensor of the plan the array of the batch, as `CpuBatch.arrays`.
        sample_ids, start
            As in `fill`.

        Raises
        ------
        SampleError
            If a sample cannot be read or decoded.
        """

        def compiled(part: slice) -> NDArray[np.uint8]:
            return self._render_chunk(sample_ids[part], parameters, outs, start + part.start)

        def in_python(index: int) -> None:
            self._render_sample(int(sample_ids[index]), parameters, outs, start + index)

        is_compiled = self._fits_one_chunk and self.decoder.supports_compiled(sample_ids)
        self.decoder.run_with_fallback(sample_ids, compiled if is_compiled else None, in_python)

    def _render_chunk(
        self,
        sample_ids: NDArray[np.int64],
        parameters: BatchParameters,
        outs: Sequence[NDArray[Any]],
        start: int,
    ) -> NDArray[np.uint8]:
        """Decode and render a chunk in compiled code; return the status of each sample."""
        chunk = slice(start, start + len(sample_ids))
        statuses = np.empty(len(sample_ids), np.uint8)
        render_chunk(
            self.decoder.images,
            self.decoder.workspace(sample_ids),
            self._scratch(sample_ids),
            sample_ids,
            parameters.boxes[chunk],
            tuple(tensor_rows[chunk, :, 0] for tensor_rows in parameters.rows),
            self._formats,
            tuple(out[chunk] for out in outs),
            statuses,
        )
        return statuses

    def _render_sample(
        self,
        sample_id: int,
        parameters: BatchParameters,
        outs: Sequence[NDArray[Any]],
        position: int,
    ) -> None:
        """Decode one sample in Python and render its views."""
        image = self.decoder.decode(sample_id, parameters.boxes[position, 0])
        scratch = self._scratch(np.array([sample_id]))
        for tensor, rows, out in zip(self.plan.tensors, parameters.rows, outs, strict=True):
            render_passes(
                image, tensor, rows[position], scratch, out[position], parameters.table, position
            )

    def _scratch(self, sample_ids: NDArray[np.int64]) -> Scratch:
        """Return this thread's work arrays for some samples."""
        sizes = self.decoder.sizes[sample_ids]
        height, width = np.maximum(sizes.max(axis=0), self._min_source)
        return self.decoder.memory.scratch((int(height), int(width)), self._view_sizes)


def render_passes(
    image: NDArray[np.uint8],
    plan: TensorPlan,
    rows: NDArray[np.float32],
    scratch: Scratch,
    out: NDArray[Any],
    table: ParameterTable,
    sample: int,
) -> None:
    """Render the views of one image that belong to one tensor, in one or several passes.

    All passes but the last produce uint8 views, which the next pass reads.

    Parameters
    ----------
    image
        (H, W, 3) uint8.
    plan
        Plan of the tensor.
    rows
        (V, passes, NUM_COLUMNS) float32 kernel rows.
    scratch
        Work arrays of this thread.
    out
        (V, 3, h, w) or (V, h, w, 3), the finished views; overwritten.
    table, sample
        Parameters of the batch, and the row of the image in them, for transforms in Python.
    """
    height, width = plan.size
    source, source_rows, views = image.reshape(1, len(image), -1), rows[None, :, 0], out
    for index in range(plan.num_passes):
        if index:  # each view of the previous pass is an image now
            plan.apply(index, table, sample, views.reshape(-1, height, width, 3))
            source = views.reshape(-1, height, 3 * width)
            source_rows = rows[:, index].reshape(-1, 1, NUM_COLUMNS)
        is_last = index == plan.num_passes - 1
        shape = source_rows.shape[:2]
        if is_last:
            views, lut = out.reshape(*shape, *out.shape[1:]), plan.lut
        else:
            views, lut = np.empty((*shape, height, width, 3), np.uint8), IDENTITY_LUT
        channels_last = plan.channels_last if is_last else True
        render_views(source, np.ascontiguousarray(source_rows), lut, scratch, channels_last, views)
