"""From the user's pipelines to what every batch is made of."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ffcv_ssl.beton.reader import BetonReader
from ffcv_ssl.errors import FieldNotFound, PipelineError
from ffcv_ssl.fields.image import RGBImageField
from ffcv_ssl.loader.engine.batch_work import BatchPlan
from ffcv_ssl.loader.render.cache import plan_cache
from ffcv_ssl.loader.render.cpu import CpuRenderer
from ffcv_ssl.loader.render.decode import ImageDecoder
from ffcv_ssl.loader.render.renderer import Renderer
from ffcv_ssl.loader.values import value_reader
from ffcv_ssl.pipeline.plan import ImagePlan, plan_images
from ffcv_ssl.system.names import did_you_mean

if TYPE_CHECKING:
    from ffcv_ssl.loader.render.gpu_device import Device

Pipelines = dict[str, Sequence[Any] | None]


@dataclass(frozen=True)
class PlanOptions:
    """Arguments of the loader that bear on what a batch is made of; `num_processes` keep a cache each."""

    seed: int
    indices: np.ndarray
    cache: str
    decode: str
    num_processes: int
    with_ids: bool
    with_params: bool
    on_error: str


def plan_batches(
    reader: BetonReader, pipelines: Pipelines, mapper: dict[str, str], options: PlanOptions
) -> BatchPlan:
    """Plan all fields of a batch: those with a pipeline first, in the user's order, then the others, in the file's.

    Raises
    ------
    FieldNotFound
        If a pipeline, or the mapper, names a field that the file does not have.
    PipelineError
        If a pipeline does not fit its field.
    """
    for name, pipeline in pipelines.items():
        if not isinstance(pipeline, (list, tuple, type(None))):
            raise PipelineError(
                f"field {name!r}: a pipeline is a list of transforms, or None, got {type(pipeline).__name__}."
            )
    stored = {name: mapper.get(name, name) for name in [*pipelines, *reader.fields]}
    for name, field in stored.items():
        if field not in reader.fields:
            hint = did_you_mean(field, reader.fields)
            raise FieldNotFound(
                f"{reader.path}: no field {field!r} for the pipeline {name!r}. Fields: {', '.join(reader.fields)}.{hint}"
            )
    unused = set(mapper) - set(pipelines)
    if unused:
        raise PipelineError(
            f"{reader.path}: custom_field_mapper names {', '.join(sorted(unused))}, which has no pipeline."
        )
    names = [name for name in stored if pipelines.get(name, ()) is not None]
    images: dict[str, dict[str, Sequence[Any]]] = {}
    values = []
    for name in names:
        if isinstance(reader.fields[stored[name]], RGBImageField):
            images.setdefault(stored[name], {})[name] = pipelines.get(name) or ()
        else:
            values.append(value_reader(reader, stored[name], name, pipelines.get(name)))
    renderers = [
        _renderer(reader, plan_images(field, group, common_size(reader, field)), options)
        for field, group in images.items()
    ]
    rest = options.with_ids, options.with_params, options.on_error
    return BatchPlan(options.seed, tuple(renderers), tuple(values), tuple(names), *rest)


def _renderer(reader: BetonReader, plan: ImagePlan, options: PlanOptions) -> Renderer:
    """Place the decoded images of a field, and return what decodes and renders them."""
    records = reader.records[plan.field]
    sizes = np.stack((records["height"], records["width"]), axis=1)
    where = f"{reader.path}: field {plan.field!r}"
    for output in plan.outputs:
        if (
            output.device.type == "cuda"
            and output.render_device is None
            and not torch.cuda.is_available()
        ):
            raise PipelineError(
                f"{where}: ToDevice({str(output.device)!r}), but torch finds no GPU; leave it out."
            )
    wanted = (
        "os" if (options.cache, options.decode) == ("auto", "fast") else options.cache
    )  # whole images are of no use to "fast"
    device = None if plan.render_device is None else _open_device(plan.render_device)
    device_available = None if device is None else device.free_bytes
    cache = plan_cache(
        wanted,
        sizes,
        records["mode"],
        options.indices,
        options.num_processes,
        where,
        device_available=device_available,
    )
    decoder = ImageDecoder(reader, plan.field, cache, options.decode)
    if device is None:
        return CpuRenderer(decoder, plan)
    from ffcv_ssl.loader.render.gpu import GpuRenderer  # Numba's CUDA half takes a while to import

    return GpuRenderer(decoder, plan, device, cache.device_offsets)


def _open_device(device: torch.device) -> "Device":
    from ffcv_ssl.loader.render.gpu_device import open_device

    return open_device(device)


def common_size(reader: BetonReader, field: str) -> tuple[int, int] | None:
    """Return height and width of all images of a field, None where they differ."""
    records = reader.records[field]
    sizes = np.stack((records["height"], records["width"]), axis=1)
    if len(sizes) == 0 or (sizes != sizes[0]).any():
        return None
    return int(sizes[0, 0]), int(sizes[0, 1])
