"""Render the views of one stored image field on the CPU."""

from collections.abc import Sequence

import numpy as np
import torch

from ffcv_ssl.errors import PipelineError
from ffcv_ssl.kernels.cpu.scratch import Scratch
from ffcv_ssl.kernels.cpu.view import render_views
from ffcv_ssl.kernels.rows import NUM_COLUMNS
from ffcv_ssl.loader.engine.buffers import BufferPool, as_tensor, pinned_tensor
from ffcv_ssl.loader.engine.threads import Engine
from ffcv_ssl.loader.render.chunk import DONE, render_chunk
from ffcv_ssl.loader.render.decode import ImageDecoder
from ffcv_ssl.loader.render.parameters import BatchParameters, draw_parameters
from ffcv_ssl.pipeline.plan import IDENTITY_LUT, ImagePlan, TensorPlan
from ffcv_ssl.pipeline.table import ParameterTable


class CpuBatch:
    """Memory of one field's views in a batch, of the pool, or pinned where the finished views go to a GPU.

    Attributes
    ----------
    parameters
        What is rendered into it.
    arrays
        Per tensor of the plan the memory that kernels write (`TensorPlan.shape`).
    """

    def __init__(self, plan: ImagePlan, parameters: BatchParameters, pool: BufferPool):
        self.parameters = parameters
        self.arrays: list[np.ndarray] = []
        self._tensors: list[torch.Tensor] = []
        for output in plan.outputs:
            for tensor_plan in output.tensors:
                shape = tensor_plan.shape(len(parameters.sample_ids))
                if output.device.type == "cuda":
                    tensor = pinned_tensor(shape, tensor_plan.dtype)
                    array = (
                        tensor.view(torch.uint16) if tensor_plan.lut.dtype == np.uint16 else tensor
                    ).numpy()
                else:
                    array = pool.take(shape, tensor_plan.lut.dtype)
                    tensor = as_tensor(array, tensor_plan.dtype)
                self._tensors.append(tensor)
                self.arrays.append(array)

    def seal(self) -> None:
        """End the writing: from here on the memory belongs to the tensors alone."""
        self.arrays = []

    def tensors(self) -> list[torch.Tensor]:
        """Return the views, in the order of the plan's tensors."""
        return self._tensors


class CpuRenderer:
    """Decodes the images of one field and renders their views.

    Parameters
    ----------
    decoder
        Of the field.
    plan
        What to render.

    Raises
    ------
    PipelineError
        If the decoder's mode is "fast" and the plan mixes dtypes or has several passes.
    """

    def __init__(self, decoder: ImageDecoder, plan: ImagePlan):
        self.decoder, self.plan = decoder, plan
        tensors = plan.tensors
        self._is_uniform = len({tensor.lut.dtype for tensor in tensors}) == 1 and all(
            tensor.num_passes == 1 for tensor in tensors
        )
        self._formats = tuple(
            (tensor.lut, np.array_equal(tensor.lut, IDENTITY_LUT), tensor.channels_last)
            for tensor in tensors
        )
        self._view_sizes = tuple(dict.fromkeys(tensor.size for tensor in tensors))
        # Later passes read finished views, so these count as sources too.
        self._smallest_source = tuple(
            max(size[axis] for size in self._view_sizes) for axis in (0, 1)
        )
        if decoder.mode == "fast" and not self._is_uniform:
            raise PipelineError(
                f"{decoder.where}: decode='fast' needs views of one dtype, with crops first and transforms in the kernel's order."
            )

    @property
    def num_pixels(self) -> int:
        """Work per sample: pixels of all views."""
        return sum(
            tensor.num_views * tensor.size[0] * tensor.size[1] for tensor in self.plan.tensors
        )

    @property
    def output_device(self) -> torch.device:
        """Device of the finished views."""
        return self.plan.outputs[0].device

    def prepare(self, engine: Engine) -> None:
        """Do nothing: a CPU needs no preparation before the first batch."""

    def draw(
        self, seed: int, epoch: int, sample_ids: np.ndarray, occurrences: np.ndarray | None = None
    ) -> BatchParameters:
        """Draw the parameters of some samples; `occurrences` as in `Keys`."""
        sizes, modes = self.decoder.sizes[sample_ids], self.decoder.modes[sample_ids]
        return draw_parameters(
            self.plan, self.decoder.mode, sizes, modes, seed, epoch, sample_ids, occurrences
        )

    def allocate(self, parameters: BatchParameters, pool: BufferPool) -> CpuBatch:
        """Take memory for a batch."""
        return CpuBatch(self.plan, parameters, pool)

    def fill(self, batch: CpuBatch, sample_ids: np.ndarray, start: int) -> None:
        """Render samples (n,) into positions of the batch from `start` on, as a job of a thread.

        Raises SampleError if a sample cannot be read or decoded.
        """
        self.render(batch.parameters, batch.arrays, sample_ids, start)

    def render(
        self,
        parameters: BatchParameters,
        outs: Sequence[np.ndarray],
        sample_ids: np.ndarray,
        start: int,
    ) -> None:
        """Render samples into any memory; arguments as in `fill`, `outs` as `CpuBatch.arrays`."""
        decoder = self.decoder
        with decoder.guarding_memory(sample_ids):
            if not (self._is_uniform and decoder.is_compiled(sample_ids)):
                for position, sample_id in enumerate(sample_ids, start):
                    self._render_decoded(int(sample_id), parameters, outs, position)
                return
            for index in np.flatnonzero(
                self._render_chunk(sample_ids, parameters, outs, start) != DONE
            ):
                sample_id, position = int(sample_ids[index]), start + int(index)
                decoder.explain(sample_id)
                if (
                    self._render_chunk(sample_ids[index : index + 1], parameters, outs, position)[0]
                    != DONE
                ):
                    decoder.require_other_than_fast(sample_id)
                    self._render_decoded(sample_id, parameters, outs, position)

    def _render_chunk(
        self,
        sample_ids: np.ndarray,
        parameters: BatchParameters,
        outs: Sequence[np.ndarray],
        start: int,
    ) -> np.ndarray:
        """Decode and render a chunk in compiled code; return the status of each sample."""
        stop = start + len(sample_ids)
        workspace, scratch = self.decoder.workspace(sample_ids), self._scratch(sample_ids)
        rows = tuple(tensor_rows[start:stop, :, 0] for tensor_rows in parameters.rows)
        statuses = np.empty(len(sample_ids), np.uint8)
        views = tuple(out[start:stop] for out in outs)
        boxes = parameters.boxes[start:stop]
        render_chunk(
            self.decoder.images,
            workspace,
            scratch,
            sample_ids,
            boxes,
            rows,
            self._formats,
            views,
            statuses,
        )
        return statuses

    def _render_decoded(
        self, sample_id: int, parameters: BatchParameters, outs: Sequence[np.ndarray], position: int
    ) -> None:
        """Decode one sample in Python and render its views."""
        image = self.decoder.decode(sample_id, parameters.boxes[position, 0])
        scratch = self._scratch(np.array([sample_id]))
        for tensor, rows, out in zip(self.plan.tensors, parameters.rows, outs, strict=True):
            render_passes(
                image, tensor, rows[position], scratch, out[position], parameters.table, position
            )

    def _scratch(self, sample_ids: np.ndarray) -> Scratch:
        """Return this thread's work arrays for some samples."""
        height, width = np.maximum(
            self.decoder.sizes[sample_ids].max(axis=0), self._smallest_source
        )
        return self.decoder.memory.scratch((int(height), int(width)), self._view_sizes)


def render_passes(
    image: np.ndarray,
    plan: TensorPlan,
    rows: np.ndarray,
    scratch: Scratch,
    out: np.ndarray,
    table: ParameterTable,
    sample: int,
) -> None:
    """Render one tensor's views of one image in as many passes as the plan has; passes before the last give bytes.

    Parameters
    ----------
    image
        (H, W, 3) uint8.
    plan
        Of the tensor.
    rows
        (V, passes, NUM_COLUMNS) float32 kernel rows.
    scratch
        Work arrays of this thread.
    out
        The (V, ...) finished views; overwritten.
    table, sample
        The batch's parameters and the image's row in them, for transforms in Python.
    """
    source, source_rows, views = image.reshape(1, len(image), -1), rows[None, :, 0], out
    for index in range(plan.num_passes):
        if index:  # every finished view is now an image of its own
            plan.apply(index, table, sample, views.reshape(-1, *plan.size, 3))
            source = views.reshape(-1, plan.size[0], 3 * plan.size[1])
            source_rows = rows[:, index].reshape(-1, 1, NUM_COLUMNS)
        last = index == plan.num_passes - 1
        lead = source_rows.shape[:2]
        views = (
            out.reshape(*lead, *out.shape[1:])
            if last
            else np.empty((*lead, *plan.size, 3), np.uint8)
        )
        lut, channels_last = (plan.lut, plan.channels_last) if last else (IDENTITY_LUT, True)
        render_views(source, np.ascontiguousarray(source_rows), lut, scratch, channels_last, views)
