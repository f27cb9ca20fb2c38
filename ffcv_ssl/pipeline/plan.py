"""Plan the views of one stored image field: groups of views, render passes, output tensors."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ffcv_ssl.errors import PipelineError
from ffcv_ssl.kernels.rows import NEUTRAL, NUM_COLUMNS, STAGES
from ffcv_ssl.pipeline.parse import ParsedPipeline, ParsedView, parse_pipeline
from ffcv_ssl.pipeline.table import ParameterTable
from ffcv_ssl.pipeline.view_group import ViewGroup
from ffcv_ssl.transforms.base import SampleTransform
from ffcv_ssl.transforms.keys import Keys
from ffcv_ssl.transforms.stages import run_stages

__all__ = [
    "IDENTITY_LUT",
    "ImagePlan",
    "OutputPlan",
    "TensorPlan",
    "ViewGroup",
    "plan_images",
]

IDENTITY_LUT = np.tile(np.arange(256, dtype=np.uint8), (3, 1))  # leaves bytes unchanged


@dataclass(frozen=True)
class TensorPlan:
    """One output tensor, which holds views of one size."""

    groups: tuple[ViewGroup, ...]
    size: tuple[int, int]
    """Height and width of the views, in pixels."""
    lut: NDArray[Any]
    """(3, 256) output value of each uint8; float16 and bfloat16 as uint16 bit patterns."""
    dtype: torch.dtype
    channels_last: bool

    @property
    def num_views(self) -> int:
        """Number of views in the tensor."""
        return sum(group.stop - group.first for group in self.groups)

    @property
    def views(self) -> list[int]:
        """Index of each view in the parameter table."""
        return [view for group in self.groups for view in range(group.first, group.stop)]

    @property
    def num_passes(self) -> int:
        """Largest number of render passes of a group."""
        return max(group.num_passes for group in self.groups)

    def shape(self, batch_size: int) -> tuple[int, ...]:
        """Return the shape of the array that the kernel writes for `batch_size` samples."""
        view = (*self.size, 3) if self.channels_last else (3, *self.size)
        return batch_size, self.num_views, *view

    def apply(
        self, index: int, table: ParameterTable, sample: int, views: NDArray[np.uint8]
    ) -> None:
        """Apply the Python transforms of a render pass to all views of one sample.

        Parameters are those of `ViewGroup.apply`; `views` holds the views of all groups.
        """
        first = 0
        for group in self.groups:
            count = group.stop - group.first
            group.apply(index, table, sample, views[first : first + count])
            first += count

    def rows(self, table: ParameterTable) -> NDArray[np.float32]:
        """Return the kernel rows of all views, (N, V, passes, NUM_COLUMNS) float32."""
        shape = len(table.values), self.num_views, self.num_passes, NUM_COLUMNS
        rows = np.empty(shape, np.float32)
        rows[...] = NEUTRAL
        view = 0
        for group in self.groups:
            count = group.stop - group.first
            group.fill(table, rows[:, view : view + count])
            view += count
        return rows


@dataclass(frozen=True)
class OutputPlan:
    """One field of the batch: its tensors, and the stages applied to them after rendering."""

    name: str
    tensors: tuple[TensorPlan, ...]
    stages: tuple[Any, ...]
    has_view_axis: bool
    render_device: torch.device | None
    """GPU that renders the views; None if the CPU renders them."""

    def finish(self, tensors: Sequence[torch.Tensor]) -> Any:
        """Convert rendered tensors to the value of the field in the batch.

        Parameters
        ----------
        tensors
            One tensor per `TensorPlan`, of the shape that it states.

        Returns
        -------
        views
            (B, [V,] 3, H, W) after all stages; a tuple of such tensors if there are several sizes.
        """
        finished = []
        for plan, tensor in zip(self.tensors, tensors, strict=True):
            views = tensor.movedim(-1, -3) if plan.channels_last else tensor
            views = views if self.has_view_axis else views[:, 0]
            finished.append(run_stages(self.stages, self.name, views))
        return finished[0] if len(finished) == 1 else tuple(finished)

    @property
    def device(self) -> torch.device:
        """Device of the finished views."""
        devices = [
            stage.device
            for stage in self.stages
            if hasattr(stage, "device") and isinstance(stage.device, torch.device)
        ]
        return devices[-1] if devices else self.render_device or torch.device("cpu")


@dataclass(frozen=True)
class ImagePlan:
    """All views of one stored image field; each image is decoded once for all of them."""

    field: str
    outputs: tuple[OutputPlan, ...]
    columns: tuple[str, ...]
    """Columns of the parameter table."""
    num_views: int

    @property
    def tensors(self) -> tuple[TensorPlan, ...]:
        """All tensors, in the order of the outputs."""
        return tuple(tensor for output in self.outputs for tensor in output.tensors)

    @property
    def render_device(self) -> torch.device | None:
        """GPU that renders all views; None if the CPU renders them."""
        return self.outputs[0].render_device

    def draw(
        self,
        seed: int,
        epoch: int,
        sample_ids: NDArray[np.integer[Any]],
        sizes: NDArray[np.integer[Any]],
        occurrences: NDArray[np.integer[Any]] | None = None,
    ) -> ParameterTable:
        """Draw the parameter table of a batch.

        Parameters
        ----------
        seed, epoch, sample_ids, occurrences
            See `Keys`.
        sizes
            (N, 2) int32, heights and widths of the stored images in pixels.
        """
        shape = len(sample_ids), self.num_views, len(self.columns)
        table = ParameterTable(self.columns, np.full(shape, np.nan, np.float32))
        for tensor in self.tensors:
            for group in tensor.groups:
                views = range(group.first, group.stop)
                keys = Keys(seed, epoch, sample_ids, views, occurrences=occurrences)
                group.draw(keys, sizes, table)
        return table


def plan_images(
    field: str, pipelines: dict[str, Sequence[Any]], common_size: tuple[int, int] | None
) -> ImagePlan:
    """Plan all pipelines that read one stored image field.

    Parameters
    ----------
    field
        Name of the stored field.
    pipelines
        Maps each name in the batch to its pipeline.
    common_size
        Height and width of all images in pixels; None if they differ. Pipelines without a crop
        need it.

    Raises
    ------
    PipelineError
        If a pipeline cannot be rendered. The message names the field and the transform.
    """
    outputs, first = [], 0
    for name, pipeline in pipelines.items():
        parsed = parse_pipeline(name, pipeline, common_size)
        outputs.append(_plan_output(name, parsed, first))
        first += len(parsed.views)
    if len({output.render_device for output in outputs}) > 1:
        raise PipelineError(
            f"field {field!r}: its images are decoded for one device, but the pipelines "
            f"{', '.join(map(repr, pipelines))} render on different devices; put the same ToDevice "
            "before the transforms of all these pipelines, or of none."
        )
    groups = [group for output in outputs for tensor in output.tensors for group in tensor.groups]
    columns = tuple(dict.fromkeys(column for group in groups for column in group.columns()))
    return ImagePlan(field, tuple(outputs), columns, first)


def _plan_output(name: str, parsed: ParsedPipeline, first: int) -> OutputPlan:
    """Group consecutive equal views, then collect the groups of each size in one tensor."""
    views = parsed.views
    by_size: dict[tuple[int, int], list[ViewGroup]] = {}
    formats: dict[tuple[int, int], ParsedView] = {}
    start = 0
    for stop in range(1, len(views) + 1):
        if stop < len(views) and views[stop] == views[start]:
            continue
        view = views[start]
        group = _group(view, first + start, first + stop)
        by_size.setdefault(group.size, []).append(group)
        if formats.setdefault(group.size, view).output_format != view.output_format:
            raise PipelineError(
                f"field {name!r}: views of one size share one tensor; give them the same "
                "normalization and layout."
            )
        start = stop
    tensors = tuple(_tensor(groups, size, formats[size]) for size, groups in by_size.items())
    return OutputPlan(name, tensors, parsed.stages, parsed.has_view_axis, parsed.device)


def _group(view: ParsedView, first: int, stop: int) -> ViewGroup:
    """Name the columns and assign render passes.

    Within a pass, transforms follow the kernel's order. A Python transform begins a new pass.
    """
    names: list[str] = []
    passes: list[int] = []
    seen: dict[str, int] = {}
    index, last_stage = 0, -1
    for transform in view.transforms:
        seen[transform.name] = seen.get(transform.name, 0) + 1
        count = seen[transform.name]
        names.append(transform.name if count == 1 else f"{transform.name}#{count}")
        is_custom = isinstance(transform, SampleTransform)
        stage = -1 if is_custom else STAGES.index(transform.name)
        if stage <= last_stage if not is_custom else last_stage >= 0:
            index += 1
        last_stage = stage
        passes.append(index)
    return ViewGroup(view.transforms, tuple(names), tuple(passes), view.size, first, stop)


def _tensor(groups: list[ViewGroup], size: tuple[int, int], view: ParsedView) -> TensorPlan:
    """Plan one tensor; the normalization becomes the kernel's lookup table."""
    lut: NDArray[Any]
    if view.normalize is None:
        lut, dtype = IDENTITY_LUT, torch.uint8
    else:
        dtype = view.normalize.type
        table = view.normalize.table()
        lut = (table if dtype == torch.float32 else table.view(torch.int16)).numpy()
        lut = lut if dtype == torch.float32 else lut.view(np.uint16)
    return TensorPlan(tuple(groups), size, lut, dtype, view.channels_last)
