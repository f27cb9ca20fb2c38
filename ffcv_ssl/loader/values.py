"""Fields that are not images: scalars gathered from the records, arrays read into the batch, everything else as Python values."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ffcv_ssl.beton.reader import BetonReader
from ffcv_ssl.errors import PipelineError
from ffcv_ssl.fields import NDArrayField, TorchTensorField
from ffcv_ssl.transforms.base import ViewTransform
from ffcv_ssl.transforms.decoders import Decoder
from ffcv_ssl.transforms.multi_view import MultiView
from ffcv_ssl.transforms.stages import ToDevice, ToTensor, run_stages


@dataclass(frozen=True)
class ValueReader:
    """Reads one stored field that is not an image.

    Parameters
    ----------
    reader
        The open file.
    field
        Name of the stored field.
    name
        Its name in the batch.
    stages
        Callables from tensor to tensor, applied to the finished batch.
    keep_axis
        Give scalars as (B, 1), as FFCV does.
    """

    reader: BetonReader
    field: str
    name: str
    stages: tuple[Any, ...] = ()
    keep_axis: bool = False

    @property
    def in_records(self) -> bool:
        """Whether the values stand in the records, so that no read is needed."""
        return self.reader.fields[self.field].pointer_name is None

    def allocate(self, sample_ids: np.ndarray) -> Any:
        """Return the batch's memory: an array of scalars (filled), an array for arrays, a list for anything else."""
        field = self.reader.fields[self.field]
        if self.in_records:
            return self.reader.records[self.field][sample_ids]
        if isinstance(field, (NDArrayField, TorchTensorField)):
            return np.empty((len(sample_ids), *field.shape), field.dtype)
        return [None] * len(sample_ids)

    def read(self, sample_ids: np.ndarray, out: Any, start: int) -> None:
        """Read the values of a chunk into positions from `start`."""
        if self.in_records:
            return
        for position, sample_id in enumerate(sample_ids, start):
            out[position] = self.reader.value(int(sample_id), self.field)

    def finish(self, out: Any, device: torch.device) -> Any:
        """Return what the batch shows: a tensor that passed the stages, on `device` unless they moved it; else the list or array itself."""
        if isinstance(out, list) or out.dtype.kind not in "biufc":  # torch has no strings and times
            return out
        values = torch.from_numpy(out[:, None] if self.keep_axis and out.ndim == 1 else out)
        values = run_stages(self.stages, self.name, values)
        return (
            values
            if any(isinstance(stage, ToDevice) for stage in self.stages)
            else ToDevice(device)(values)
        )


def value_reader(
    reader: BetonReader, field: str, name: str, pipeline: Sequence[Any] | None
) -> ValueReader:
    """Plan one field that is not an image; PipelineError where its pipeline holds image transforms."""
    elements = list(pipeline or ())
    for element in elements:
        if isinstance(element, (ViewTransform, MultiView)):
            kind = type(reader.fields[field]).__name__
            raise PipelineError(
                f"field {name!r}: {type(element).__name__} works on images, and this is a {kind}."
            )
        if isinstance(element, type) or not (
            isinstance(element, (Decoder, ToTensor)) or callable(element)
        ):
            raise PipelineError(
                f"field {name!r}: {element!r} is not a decoder, nor a callable from tensor to tensor."
            )
    stages = tuple(element for element in elements if not isinstance(element, (Decoder, ToTensor)))
    return ValueReader(
        reader, field, name, stages, any(isinstance(element, ToTensor) for element in elements)
    )
