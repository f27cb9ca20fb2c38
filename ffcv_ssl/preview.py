"""Figures of samples next to their augmented views, with the crop boxes on the original images."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ffcv_ssl.beton.reader import BetonReader
from ffcv_ssl.errors import FieldNotFound, PipelineError
from ffcv_ssl.fields import RGBImageField
from ffcv_ssl.loader.batch import Batch
from ffcv_ssl.loader.loader import Loader
from ffcv_ssl.loader.plan import common_size
from ffcv_ssl.pipeline.plan import ViewGroup, plan_images
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
    """A sample with its views, one row of the figure.

    Parameters
    ----------
    sample_id
        Position of the sample in the file.
    label
        Class name or number; None without a field `label`.
    original
        (H, W, 3) uint8 RGB, the stored image.
    views
        (h, w, 3) uint8 RGB arrays, in the order of the pipeline.
    params
        For each view the parameters of its transforms, by column of the parameter table.
    captions
        For each view the names of the transforms that changed it, apart from the crop.
    """

    sample_id: int
    label: str | None
    original: NDArray[np.uint8]
    views: list[NDArray[np.uint8]]
    params: list[dict[str, float]]
    captions: list[str]


def preview_figure(
    path: str | os.PathLike[str],
    pipeline: Sequence[Any],
    num_samples: int = 8,
    seed: int = 0,
    *,
    field: str = "image",
    epoch: int = 0,
) -> Figure:
    """Draw samples next to their views, with the crop box of each view on the original.

    Parameters
    ----------
    path
        Path of the .beton file.
    pipeline
        List of transforms as for `Loader`, for instance a preset of `ffcv_ssl.views`. The views
        must be rendered on the CPU, without normalization.
    num_samples
        Number of rows, >= 1. A file with fewer samples gives fewer rows.
    seed
        Seed that selects the samples, and seed of the augmentations.
    field
        Name of the image field.
    epoch
        Number of the epoch. The views are those that `Loader(path, seed=seed)` renders of the same
        samples in this epoch.

    Returns
    -------
    matplotlib.figure.Figure
        One row per sample: the original, then its views.

    Raises
    ------
    FieldNotFound
        If the file has no such image field.
    PipelineError
        If `num_samples` is less than 1, or the pipeline does not produce uint8 RGB images.

    Examples
    --------
    >>> import numpy as np
    >>> from ffcv_ssl import views
    >>> from ffcv_ssl.fields import RGBImageField
    >>> from ffcv_ssl.preview import preview_figure
    >>> from ffcv_ssl.writer import DatasetWriter
    >>> fields = {"image": RGBImageField()}
    >>> writer = DatasetWriter("train.beton", fields, num_workers=0, progress=False)
    >>> report = writer.from_indexed_dataset([(np.zeros((40, 40, 3), np.uint8),) for _ in range(4)])
    >>> figure = preview_figure("train.beton", views.simclr(32), num_samples=2)
    >>> figure.savefig("views.png")
    """
    # Figure and canvas without pyplot: no global state, and no display is needed.
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
    path: str | os.PathLike[str],
    pipeline: Sequence[Any],
    num_samples: int = 8,
    seed: int = 0,
    *,
    field: str = "image",
    epoch: int = 0,
) -> list[PreviewedSample]:
    """Render the samples and views that `preview_figure` draws.

    Parameters
    ----------
    path, pipeline, num_samples, seed, field, epoch
        As in `preview_figure`.

    Returns
    -------
    list of PreviewedSample
        The samples, in the order of the file.

    Raises
    ------
    FieldNotFound, PipelineError
        As in `preview_figure`.
    """
    if num_samples < 1:
        raise PipelineError(f"preview: num_samples must be >= 1, got {num_samples}.")
    with BetonReader(path) as reader:
        fields = reader.fields
        if not isinstance(fields.get(field), RGBImageField):
            images = [name for name in fields if isinstance(fields[name], RGBImageField)]
            raise FieldNotFound(
                f"{path}: no image field {field!r}. Image fields: {', '.join(images) or 'none'}."
                f"{did_you_mean(field, images)}"
            )
        chosen = np.sort(np.random.default_rng(seed).permutation(reader.num_samples)[:num_samples])
        batch = _render(reader, field, pipeline, chosen, seed, epoch)
        plan = plan_images(field, {field: pipeline}, common_size(reader, field))
        groups = [group for tensor in plan.tensors for group in tensor.groups]
        views = list(_split_views(batch[field]))
        return [
            PreviewedSample(
                sample_id,
                _label(reader, sample_id),
                reader.value(sample_id, field),
                [view[position] for view in views],
                *_describe_views(groups, batch, field, position),
            )
            for position, sample_id in enumerate(chosen.tolist())
        ]


def _render(
    reader: BetonReader,
    field: str,
    pipeline: Sequence[Any],
    sample_ids: NDArray[np.int64],
    seed: int,
    epoch: int,
) -> Batch:
    """Render the views of some samples in one batch, with their parameters."""
    pipelines = {name: pipeline if name == field else None for name in reader.fields}
    options: dict[str, Any] = {"indices": sample_ids, "drop_last": False, "with_params": True}
    with Loader(
        reader.path, len(sample_ids), 0, seed=seed, pipelines=pipelines, **options
    ) as loader:
        loader.set_epoch(epoch)
        return next(iter(loader))


def _split_views(images: Any) -> Iterator[NDArray[np.uint8]]:
    """Yield each view of a batch, (B, h, w, 3) uint8, from a tensor or a tuple of tensors."""
    for tensor in images if isinstance(images, tuple) else (images,):
        if str(tensor.dtype) != "torch.uint8" or tensor.shape[-3] != 3:
            raise PipelineError(
                f"preview: the pipeline must produce uint8 RGB views, got {tensor.dtype} "
                f"{tuple(tensor.shape)}; leave out normalization."
            )
        array = tensor.numpy()
        array = array[:, None] if array.ndim == 4 else array
        yield from np.moveaxis(array, (1, 2), (0, 4))


def _describe_views(
    groups: Sequence[ViewGroup], batch: Batch, field: str, sample: int
) -> tuple[list[dict[str, float]], list[str]]:
    """Return the parameters and the caption of each view of one sample."""
    assert batch.params is not None
    params, captions = [], []
    for group in groups:
        for view in range(group.first, group.stop):
            params.append(_view_params(batch.params[field], sample, view))
            captions.append(view_caption(group, params[-1]))
    return params, captions


def _view_params(table: ParameterTable, sample: int, view: int) -> dict[str, float]:
    """Return the parameters of one view, without the columns of transforms that it lacks."""
    values = zip(table.columns, table.values[sample, view], strict=True)
    return {name: float(value) for name, value in values if not np.isnan(value)}


def _label(reader: BetonReader, sample_id: int) -> str | None:
    """Return the class name of a sample or the number in its field `label`; None without one."""
    if "label" not in reader.fields or reader.fields["label"].pointer_name is not None:
        return None
    label = reader.value(sample_id, "label")
    names = reader.class_names
    return names[label] if names is not None and 0 <= label < len(names) else str(label)


def _draw_row(axes: Sequence[Axes], sample: PreviewedSample) -> None:
    """Draw the original with the crop boxes, then the views in frames of the same colors."""
    from matplotlib import colormaps

    colors = [colormaps["tab10"](view % 10) for view in range(len(sample.views))]
    height, width = sample.original.shape[:2]
    label = "" if sample.label is None else f" · {caption(sample.label)}"
    _draw_image(axes[0], sample.original, f"{sample.sample_id}{label}\n{width} x {height}")
    for params, color in zip(sample.params, colors, strict=True):
        if all(name in params for name in BOX):
            _draw_box(axes[0], params, color)
    for ax, view, text, color in zip(axes[1:], sample.views, sample.captions, colors, strict=False):
        _draw_image(ax, view, text)
        ax.axis("on")
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set(color=color, linewidth=2)
    for ax in axes[1 + len(sample.views) :]:
        ax.axis("off")


def _draw_box(ax: Axes, params: Mapping[str, float], color: tuple[float, ...]) -> None:
    """Draw the crop box of a view on the original image."""
    from matplotlib.patches import Rectangle

    top, left, height, width = (params[name] for name in BOX)
    corner = left - 0.5, top - 0.5  # imshow puts the center of the first pixel at 0
    style: dict[str, Any] = {"fill": False, "edgecolor": color, "linewidth": 1.5, "clip_on": False}
    ax.add_patch(Rectangle(corner, width, height, **style))


def _draw_image(ax: Axes, image: NDArray[np.uint8], title: str) -> None:
    """Draw an image without interpolation."""
    ax.imshow(image, interpolation="nearest")
    ax.set_title(title, fontsize=6, pad=2)
    ax.axis("off")


def view_caption(group: ViewGroup, params: Mapping[str, float]) -> str:
    """Return a caption such as "flip, blur 1.2" of the transforms that changed a view.

    The caption does not mention the crop.

    Parameters
    ----------
    group
        Views with the same transforms.
    params
        Parameters of the view, by column of the parameter table.
    """
    texts = []
    for name, transform in zip(group.names, group.transforms, strict=True):
        if isinstance(transform, KernelTransform) and transform.label:
            neutral = transform.neutral
            drawn = {parameter: params[f"{name}.{parameter}"] for parameter in neutral}
            changed = [value for parameter, value in drawn.items() if value != neutral[parameter]]
            texts += [transform.label.format(changed[0])] if changed else []
        elif isinstance(transform, SampleTransform):
            texts.append(transform.name)
    return ", ".join(texts)
