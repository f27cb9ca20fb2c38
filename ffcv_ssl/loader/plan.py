"""Plan of the batches of a loader, made from the pipelines of the user."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from ffcv_ssl.beton.reader import BetonReader
from ffcv_ssl.errors import FieldNotFound, PipelineError
from ffcv_ssl.fields.image import RGBImageField
from ffcv_ssl.loader.engine.batch_plan import BatchPlan
from ffcv_ssl.loader.render.cache import plan_cache
from ffcv_ssl.loader.render.cpu import CpuRenderer
from ffcv_ssl.loader.render.decode import ImageDecoder
from ffcv_ssl.loader.render.renderer import Renderer
from ffcv_ssl.loader.values import plan_value_reader
from ffcv_ssl.pipeline.plan import ImagePlan, plan_images
from ffcv_ssl.system.names import did_you_mean

if TYPE_CHECKING:
    from ffcv_ssl.loader.render.gpu_device import Device

Pipelines = Mapping[str, Sequence[Any] | None]


@dataclass(frozen=True)
class PlanOptions:
    """Arguments of `Loader` that affect the contents of a batch.

    Parameters
    ----------
    seed, cache, decode, with_ids, with_params, on_error
        Arguments of `Loader`.
    indices
        (N,) int64 sample ids that the loader reads.
    num_processes
        Number of processes that each keep their own cache.
    """

    seed: int
    indices: NDArray[np.int64]
    cache: str
    decode: str
    num_processes: int
    with_ids: bool
    with_params: bool
    on_error: str


def plan_batches(
    reader: BetonReader, pipelines: Pipelines, mapper: Mapping[str, str], options: PlanOptions
) -> BatchPlan:
    """Plan all fields of a batch.

    Fields with a pipeline come first, in the order of `pipelines`. All other fields follow, in the
    order of the file.

    Parameters
    ----------
    reader
        The open file.
    pipelines
        Field of the batch → pipeline, or None to leave the field out.
    mapper
        Field of the batch → stored field, where the names differ.
    options
        Further arguments of `Loader`.

    Returns
    -------
    BatchPlan
        Renderers and readers of all fields.

    Raises
    ------
    FieldNotFound
        If a pipeline, or the mapper, names a field that the file does not have.
    PipelineError
        If a pipeline does not fit its field.
    """
    stored_fields = _stored_fields(reader, pipelines, mapper)
    names = [name for name in stored_fields if pipelines.get(name, ()) is not None]
    image_pipelines: dict[str, dict[str, Sequence[Any]]] = {}  # by stored field
    values = []
    for name in names:
        field, pipeline = stored_fields[name], pipelines.get(name)
        if isinstance(reader.fields[field], RGBImageField):
            image_pipelines.setdefault(field, {})[name] = pipeline or ()
        else:
            values.append(plan_value_reader(reader, field, name, pipeline))
    renderers = []
    for field, field_pipelines in image_pipelines.items():
        plan = plan_images(field, field_pipelines, common_size(reader, field))
        renderers.append(_create_renderer(reader, plan, options))
    return BatchPlan(
        seed=options.seed,
        images=tuple(renderers),
        values=tuple(values),
        names=tuple(names),
        with_ids=options.with_ids,
        with_params=options.with_params,
        on_error=options.on_error,
    )


def _stored_fields(
    reader: BetonReader, pipelines: Pipelines, mapper: Mapping[str, str]
) -> dict[str, str]:
    """Return the stored field of each field of the batch; check all names."""
    for name, pipeline in pipelines.items():
        if not isinstance(pipeline, (list, tuple, type(None))):
            raise PipelineError(
                f"field {name!r}: a pipeline must be a list of transforms or None, "
                f"got {type(pipeline).__name__}."
            )
    stored_fields = {name: mapper.get(name, name) for name in [*pipelines, *reader.fields]}
    for name, field in stored_fields.items():
        if field not in reader.fields:
            raise FieldNotFound(
                f"{reader.path}: no field {field!r} for the pipeline {name!r}. "
                f"Fields: {', '.join(reader.fields)}.{did_you_mean(field, reader.fields)}"
            )
    unused = set(mapper) - set(pipelines)
    if unused:
        raise PipelineError(
            f"{reader.path}: custom_field_mapper names {', '.join(sorted(unused))}, "
            "but pipelines has no such key."
        )
    return stored_fields


def _create_renderer(reader: BetonReader, plan: ImagePlan, options: PlanOptions) -> Renderer:
    """Decide where to keep the decoded images of a field, and return its renderer."""
    records = reader.records[plan.field]
    sizes = np.stack((records["height"], records["width"]), axis=1)
    where = f"{reader.path}: field {plan.field!r}"
    for output in plan.outputs:
        needs_gpu = output.device.type == "cuda" and output.render_device is None
        if needs_gpu and not torch.cuda.is_available():
            raise PipelineError(
                f"{where}: ToDevice({str(output.device)!r}) needs a GPU, but torch finds no GPU; "
                "remove it."
            )
    cache = options.cache
    if (cache, options.decode) == ("auto", "fast"):
        cache = "os"  # decode="fast" cannot use the whole images that a cache keeps
    device = None if plan.render_device is None else _open_device(plan.render_device)
    image_cache = plan_cache(
        cache,
        sizes,
        records["mode"],
        options.indices,
        options.num_processes,
        where,
        device_available=None if device is None else device.free_bytes,
    )
    decoder = ImageDecoder(reader, plan.field, image_cache, options.decode)
    if device is None:
        return CpuRenderer(decoder, plan)
    from ffcv_ssl.loader.render.gpu import GpuRenderer  # imports Numba's CUDA target, which is slow

    return GpuRenderer(decoder, plan, device, image_cache.device_offsets)


def _open_device(device: torch.device) -> "Device":
    """Return the GPU that renders; its module is imported only if it is needed."""
    from ffcv_ssl.loader.render.gpu_device import open_device

    return open_device(device)


def common_size(reader: BetonReader, field: str) -> tuple[int, int] | None:
    """Return the size that all images of a field have in common.

    Parameters
    ----------
    reader
        The open file.
    field
        Name of a stored image field.

    Returns
    -------
    tuple or None
        Height and width; None if the images differ in size, or there are none.
    """
    records = reader.records[field]
    sizes = np.stack((records["height"], records["width"]), axis=1)
    if len(sizes) == 0 or (sizes != sizes[0]).any():
        return None
    return int(sizes[0, 0]), int(sizes[0, 1])
