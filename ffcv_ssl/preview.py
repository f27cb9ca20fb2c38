"""Samples of a file beside their augmented views, as a figure: what the network will see, and where it was cut out."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ffcv_ssl.beton.reader import BetonReader
from ffcv_ssl.errors import FieldNotFound, PipelineError
from ffcv_ssl.fields import RGBImageField
from ffcv_ssl.loader.loader import Loader
from ffcv_ssl.pipeline.plan import ViewGroup
from ffcv_ssl.pipeline.table import ParameterTable
from ffcv_ssl.system.names import caption, did_you_mean
from ffcv_ssl.transforms.base import KernelTransform, SampleTransform

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TILE_INCHES = 1.5
TITLE_INCHES = 0.35  # above each row
DPI = 150
BOX = ("crop.top", "crop.left", "crop.height", "crop.width")


@dataclass(frozen=True)
class PreviewedSample:
    """One row of the figure.

    Parameters
    ----------
    sample_id
        Position in the file.
    label
        Class name or number; None without labels.
    original
        (H, W, 3) uint8, as stored.
    views
        (h, w, 3) uint8 each, in the order of the pipeline.
    params
        For each view the columns of the parameter table that its transforms have.
    captions
        For each view what was done to it besides its crop.
    """

    sample_id: int
    label: str | None
    original: np.ndarray
    views: list[np.ndarray]
    params: list[dict[str, float]]
    captions: list[str]


def preview_figure(
    path: str | os.PathLike,
    pipeline: Sequence[Any],
    num_samples: int = 8,
    seed: int = 0,
    *,
    field: str = "image",
    epoch: int = 0,
) -> Figure:
    """Draw samples beside their views, with every view's crop box on the original.

    Parameters
    ----------
    path
        The .beton file.
    pipeline
        As for `Loader`, for instance a preset of `ffcv_ssl.views`; on the CPU and without normalization.
    num_samples
        Rows, >= 1; at most as many as the file has. They are chosen by `seed`.
    seed, epoch
        The views are those that `Loader(path, seed=seed)` renders of these samples in this epoch.
    field
        Name of the image field.

    Raises
    ------
    FieldNotFound, PipelineError
        If the file has no such image field, or the pipeline gives no uint8 images.
    """
    # The object interface with Agg: no global state, no display.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    samples = preview_samples(path, pipeline, num_samples, seed, field=field, epoch=epoch)
    num_columns = 1 + max(len(sample.views) for sample in samples)
    size = num_columns * TILE_INCHES, len(samples) * (TILE_INCHES + TITLE_INCHES)
    figure = Figure(figsize=size, dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(samples), num_columns, squeeze=False)
    for row, sample in zip(axes, samples, strict=True):
        _draw_row(row, sample)
    return figure


def preview_samples(
    path: str | os.PathLike,
    pipeline: Sequence[Any],
    num_samples: int = 8,
    seed: int = 0,
    *,
    field: str = "image",
    epoch: int = 0,
) -> list[PreviewedSample]:
    """Render what `preview_figure` draws; same parameters, same errors."""
    if num_samples < 1:
        raise PipelineError(f"preview: num_samples is at least 1, got {num_samples}.")
    with BetonReader(path) as reader:
        if not isinstance(reader.fields.get(field), RGBImageField):
            images = [
                name for name, each in reader.fields.items() if isinstance(each, RGBImageField)
            ]
            raise FieldNotFound(
                f"{path}: no image field {field!r}. Image fields: {', '.join(images) or 'none'}.{did_you_mean(field, images)}"
            )
        chosen = np.sort(np.random.default_rng(seed).permutation(reader.num_samples)[:num_samples])
        pipelines = {name: pipeline if name == field else None for name in reader.fields}
        views, params, captions = _render(path, field, pipelines, chosen, seed, epoch)
        return [
            PreviewedSample(
                sample_id,
                _label(reader, sample_id),
                reader.value(sample_id, field),
                [view[position] for view in views],
                [table[position] for table in params],
                [texts[position] for texts in captions],
            )
            for position, sample_id in enumerate(chosen.tolist())
        ]


def _render(
    path: str | os.PathLike,
    field: str,
    pipelines: Mapping[str, Any],
    ids: np.ndarray,
    seed: int,
    epoch: int,
) -> tuple[list[np.ndarray], list[list[dict[str, float]]], list[list[str]]]:
    """The views of some samples, each (B, h, w, 3) uint8, and the parameters and caption of every view and sample."""
    options: dict[str, Any] = {
        "num_workers": 0,
        "indices": ids,
        "drop_last": False,
        "with_params": True,
    }
    with closing(
        Loader(path, batch_size=len(ids), seed=seed, pipelines=pipelines, **options)
    ) as loader:
        loader.set_epoch(epoch)
        batch = next(iter(loader))
        groups = [
            group for tensor in loader._plan.images[0].plan.tensors for group in tensor.groups
        ]
    assert batch.params is not None
    table = batch.params[field]
    params, captions = [], []
    for group in groups:
        for number in range(group.first, group.stop):
            params.append([_view_params(table, sample, number) for sample in range(len(ids))])
            captions.append([view_caption(group, each) for each in params[-1]])
    return list(_views(batch[field])), params, captions


def _views(images: Any) -> Iterator[np.ndarray]:
    """The views of a batch one by one, each (B, h, w, 3) uint8, whatever the form of the batch."""
    for tensor in images if isinstance(images, tuple) else (images,):
        if str(tensor.dtype) != "torch.uint8" or tensor.shape[-3] != 3:
            raise PipelineError(
                f"preview: wants uint8 RGB views, the pipeline gives {tensor.dtype} {tuple(tensor.shape)}; leave out normalization."
            )
        array = tensor.numpy()
        array = array[:, None] if array.ndim == 4 else array
        yield from np.moveaxis(array, (1, 2), (0, 4))


def _view_params(table: ParameterTable, sample: int, view: int) -> dict[str, float]:
    """The parameters of one view, without the transforms that it does not have."""
    values = table.values[sample, view]
    return {
        name: float(value)
        for name, value in zip(table.columns, values, strict=True)
        if not np.isnan(value)
    }


def _label(reader: BetonReader, sample_id: int) -> str | None:
    """Name of the sample's class, or its number."""
    if "label" not in reader.fields or reader.fields["label"].pointer_name is not None:
        return None
    label = reader.value(sample_id, "label")
    names = reader.class_names
    return names[label] if names is not None and 0 <= label < len(names) else str(label)


def _draw_row(axes: Sequence[Axes], sample: PreviewedSample) -> None:
    """The original with its boxes, then the views in frames of the boxes' colours."""
    from matplotlib import colormaps
    from matplotlib.patches import Rectangle

    colors = [colormaps["tab10"](view % 10) for view in range(len(sample.views))]
    height, width = sample.original.shape[:2]
    label = "" if sample.label is None else f" · {caption(sample.label)}"
    _show(axes[0], sample.original, f"{sample.sample_id}{label}\n{width} x {height}")
    for params, color in zip(sample.params, colors, strict=True):
        if all(name in params for name in BOX):
            top, left, box_height, box_width = (params[name] for name in BOX)
            corner = left - 0.5, top - 0.5  # imshow puts the centre of the first pixel at 0
            axes[0].add_patch(
                Rectangle(
                    corner,
                    box_width,
                    box_height,
                    fill=False,
                    edgecolor=color,
                    linewidth=1.5,
                    clip_on=False,
                )
            )
    for ax, view, text, color in zip(axes[1:], sample.views, sample.captions, colors, strict=False):
        _show(ax, view, text)
        ax.axis("on")
        ax.set(xticks=[], yticks=[])
        for side in ax.spines.values():
            side.set(color=color, linewidth=2)
    for ax in axes[1 + len(sample.views) :]:
        ax.axis("off")


def _show(ax: Axes, image: np.ndarray, title: str) -> None:
    """One picture, its pixels as they are."""
    ax.imshow(image, interpolation="nearest")
    ax.set_title(title, fontsize=6, pad=2)
    ax.axis("off")


def view_caption(group: ViewGroup, params: Mapping[str, float]) -> str:
    """What the transforms of a view did to it besides its crop, in a few words."""
    texts = []
    for name, transform in zip(group.names, group.transforms, strict=True):
        if isinstance(transform, KernelTransform) and transform.label:
            drawn = [
                (params[f"{name}.{parameter}"], neutral)
                for parameter, neutral in transform.neutral.items()
            ]
            changed = [value for value, neutral in drawn if value != neutral]
            texts += [transform.label.format(changed[0])] if changed else []
        elif isinstance(transform, SampleTransform):
            texts.append(transform.name)
    return ", ".join(texts)
