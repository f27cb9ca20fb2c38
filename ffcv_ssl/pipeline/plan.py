"""Plan the views of one stored image field: which transforms draw, how many render passes, which tensors come out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ffcv_ssl.errors import PipelineError
from ffcv_ssl.kernels.rows import HEIGHT, NEUTRAL, NUM_COLUMNS, STAGES, WIDTH
from ffcv_ssl.pipeline.parse import ParsedPipeline, ParsedView, parse_pipeline
from ffcv_ssl.pipeline.table import ParameterTable
from ffcv_ssl.transforms.base import KernelTransform, SampleTransform, ViewTransform
from ffcv_ssl.transforms.keys import Keys
from ffcv_ssl.transforms.stages import run_stages

IDENTITY_LUT = np.tile(np.arange(256, dtype=np.uint8), (3, 1))  # of bytes that stay as they are


@dataclass(frozen=True)
class ViewGroup:
    """Consecutive views of a field that share one list of transforms, drawn together."""

    transforms: tuple[ViewTransform, ...]
    names: tuple[str, ...]
    """Column prefix of each transform."""
    passes: tuple[int, ...]
    """Render pass of each transform. One in Python changes what its pass reads, before the kernel does its part."""
    size: tuple[int, int]
    first: int
    stop: int

    @property
    def num_passes(self) -> int:
        """Times the kernel runs over these views."""
        return self.passes[-1] + 1

    def columns(self) -> list[str]:
        """Names of the columns that this group draws."""
        return [
            f"{name}.{p}"
            for name, transform in zip(self.names, self.transforms, strict=True)
            for p in transform.parameters
        ]

    def draw(self, keys: Keys, sizes: np.ndarray, table: ParameterTable) -> None:
        """Fill the group's part of the table."""
        for name, transform in zip(self.names, self.transforms, strict=True):
            transform.draw(
                keys.of(name, transform.seed),
                sizes,
                table.select(name, slice(self.first, self.stop)),
            )

    def fill(self, table: ParameterTable, rows: np.ndarray) -> None:
        """Translate the group's part of the table into kernel rows (N, V, passes, NUM_COLUMNS)."""
        rows[..., 1:, HEIGHT], rows[..., 1:, WIDTH] = (
            self.size
        )  # later passes read the finished view
        for name, transform, index in zip(self.names, self.transforms, self.passes, strict=True):
            if isinstance(transform, KernelTransform):
                transform.fill(
                    table.select(name, slice(self.first, self.stop)), rows[:, :, index], self.size
                )

    def apply(self, index: int, table: ParameterTable, sample: int, views: np.ndarray) -> None:
        """Apply the group's transforms in Python to what pass `index` reads: views (V, h, w, 3) uint8 of one sample, in place."""
        for name, transform, place in zip(self.names, self.transforms, self.passes, strict=True):
            if place == index and isinstance(transform, SampleTransform):
                columns = {
                    parameter: table[f"{name}.{parameter}"][sample]
                    for parameter in transform.parameters
                }
                for view, number in zip(views, range(self.first, self.stop), strict=True):
                    transform.apply(
                        view,
                        {parameter: float(values[number]) for parameter, values in columns.items()},
                    )


@dataclass(frozen=True)
class TensorPlan:
    """One output tensor: views of one size."""

    groups: tuple[ViewGroup, ...]
    size: tuple[int, int]
    lut: np.ndarray
    """(3, 256) output value of each uint8; float16 and bfloat16 as uint16 bit patterns."""
    dtype: torch.dtype
    channels_last: bool

    @property
    def num_views(self) -> int:
        return sum(group.stop - group.first for group in self.groups)

    @property
    def views(self) -> list[int]:
        """Number of each view in the parameter table."""
        return [view for group in self.groups for view in range(group.first, group.stop)]

    @property
    def num_passes(self) -> int:
        return max(group.num_passes for group in self.groups)

    def shape(self, batch_size: int) -> tuple[int, ...]:
        """Shape of the memory that the kernel writes."""
        return (
            batch_size,
            self.num_views,
            *((*self.size, 3) if self.channels_last else (3, *self.size)),
        )

    def apply(self, index: int, table: ParameterTable, sample: int, views: np.ndarray) -> None:
        """Apply transforms in Python to what pass `index` reads: all views (V, h, w, 3) uint8 of one sample, in place."""
        first = 0
        for group in self.groups:
            count = group.stop - group.first
            group.apply(index, table, sample, views[first : first + count])
            first += count

    def rows(self, table: ParameterTable) -> np.ndarray:
        """Return the kernel rows of all views, (N, V, passes, NUM_COLUMNS) float32."""
        rows = np.empty(
            (len(table.values), self.num_views, self.num_passes, NUM_COLUMNS), np.float32
        )
        rows[...] = NEUTRAL
        view = 0
        for group in self.groups:
            count = group.stop - group.first
            group.fill(table, rows[:, view : view + count])
            view += count
        return rows


@dataclass(frozen=True)
class OutputPlan:
    """One field of the batch: its tensors, and the stages they pass after rendering."""

    name: str
    tensors: tuple[TensorPlan, ...]
    stages: tuple[Any, ...]
    has_view_axis: bool
    render_device: torch.device | None
    """The GPU that renders the views; None: the CPU does."""

    def finish(self, tensors: Sequence[torch.Tensor]) -> Any:
        """Bring rendered memory into the user's form: layout (B, [V,] 3, H, W), stages, one tensor per size."""
        finished = []
        for plan, tensor in zip(self.tensors, tensors, strict=True):
            views = tensor.movedim(-1, -3) if plan.channels_last else tensor
            views = views if self.has_view_axis else views[:, 0]
            finished.append(run_stages(self.stages, self.name, views))
        return finished[0] if len(finished) == 1 else tuple(finished)

    @property
    def device(self) -> torch.device:
        """Where the finished views are."""
        devices = [
            stage.device
            for stage in self.stages
            if hasattr(stage, "device") and isinstance(stage.device, torch.device)
        ]
        return devices[-1] if devices else self.render_device or torch.device("cpu")


@dataclass(frozen=True)
class ImagePlan:
    """All views of one stored image field, rendered from one decode."""

    field: str
    outputs: tuple[OutputPlan, ...]
    columns: tuple[str, ...]
    num_views: int

    @property
    def tensors(self) -> tuple[TensorPlan, ...]:
        """All tensors, in the order of the outputs."""
        return tuple(tensor for output in self.outputs for tensor in output.tensors)

    @property
    def render_device(self) -> torch.device | None:
        """The GPU that renders all views; None: the CPU does."""
        return self.outputs[0].render_device

    def draw(
        self,
        seed: int,
        epoch: int,
        sample_ids: np.ndarray,
        sizes: np.ndarray,
        occurrences: np.ndarray | None = None,
    ) -> ParameterTable:
        """Draw the parameter table of a batch.

        `sizes` is (N, 2) int32, heights and widths of the stored images; the rest is as in `Keys`.
        """
        table = ParameterTable(
            self.columns,
            np.full((len(sample_ids), self.num_views, len(self.columns)), np.nan, np.float32),
        )
        for tensor in self.tensors:
            for group in tensor.groups:
                keys = Keys(
                    seed, epoch, sample_ids, range(group.first, group.stop), occurrences=occurrences
                )
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
        Name in the batch → pipeline.
    common_size
        Height and width of all its images, None where they differ; a pipeline without a crop needs it.

    Raises
    ------
    PipelineError
        If a pipeline cannot be rendered; the message names field and transform.
    """
    outputs, first = [], 0
    for name, pipeline in pipelines.items():
        parsed = parse_pipeline(name, pipeline, common_size)
        outputs.append(_plan_output(name, parsed, first))
        first += len(parsed.views)
    if len({output.render_device for output in outputs}) > 1:
        raise PipelineError(
            f"field {field!r}: {', '.join(map(repr, pipelines))} share its images, which are decoded for one device; give all of these "
            "pipelines the same ToDevice before their transforms, or none of them."
        )
    groups = [group for output in outputs for tensor in output.tensors for group in tensor.groups]
    columns = tuple(dict.fromkeys(column for group in groups for column in group.columns()))
    return ImagePlan(field, tuple(outputs), columns, first)


def _plan_output(name: str, parsed: ParsedPipeline, first: int) -> OutputPlan:
    """Group equal neighbours, then gather the groups by size."""
    views = parsed.views
    by_size: dict[tuple[int, int], list[ViewGroup]] = {}
    styles: dict[tuple[int, int], ParsedView] = {}
    start = 0
    for stop in range(1, len(views) + 1):
        if stop < len(views) and views[stop] == views[start]:
            continue
        view = views[start]
        group = _group(view, first + start, first + stop)
        by_size.setdefault(group.size, []).append(group)
        if styles.setdefault(group.size, view).style != view.style:
            raise PipelineError(
                f"field {name!r}: views of one size share one tensor; give them the same normalization and layout."
            )
        start = stop
    tensors = tuple(_tensor(groups, size, styles[size]) for size, groups in by_size.items())
    return OutputPlan(name, tensors, parsed.stages, parsed.has_view_axis, parsed.device)


def _group(view: ParsedView, first: int, stop: int) -> ViewGroup:
    """Name the columns and split the transforms into passes, in which they follow the kernel's order; one in Python begins a pass."""
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
    """Turn the normalization into the kernel's lookup table."""
    if view.normalize is None:
        lut, dtype = IDENTITY_LUT, torch.uint8
    else:
        dtype = view.normalize.type
        table = view.normalize.table()
        lut = (table if dtype == torch.float32 else table.view(torch.int16)).numpy()
        lut = lut if dtype == torch.float32 else lut.view(np.uint16)
    return TensorPlan(tuple(groups), size, lut, dtype, view.channels_last)
