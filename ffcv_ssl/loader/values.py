"""Readers of fields that are not images.

Scalars are gathered from the records and arrays are read into the batch. All other values stay
Python objects in a list.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ffcv_ssl.beton.reader import BetonReader
from ffcv_ssl.errors import PipelineError
from ffcv_ssl.fields import NDArrayField, TorchTensorField
from ffcv_ssl.transforms.base import ViewTransform
from ffcv_ssl.transforms.decoders import Decoder
from ffcv_ssl.transforms.multi_view import MultiView
from ffcv_ssl.transforms.stages import ToDevice, ToTensor, run_stages

TORCH_KINDS = "biufc"  # NumPy dtype kinds that torch has too; it has no strings and times


@dataclass(frozen=True)
class ValueReader:
    """Reader of one stored field that is not an image.

    Parameters
    ----------
    reader
        The open file.
    field
        Name of the stored field.
    name
        Name of the field in the batch.
    stages
        Callables from tensor to tensor, applied to the finished batch.
    keep_axis
        Whether scalars have shape (B, 1), as in FFCV, instead of (B,).
    """

    reader: BetonReader
    field: str
    name: str
    stages: tuple[Any, ...] = ()
    keep_axis: bool = False

    @property
    def is_in_records(self) -> bool:
        """Whether the records contain the values, so that nothing else must be read."""
        return self.reader.fields[self.field].pointer_name is None

    def allocate(self, sample_ids: NDArray[np.int64]) -> Any:
        """Allocate the values of a batch.

        Parameters
        ----------
        sample_ids
            (B,) int64.

        Returns
        -------
        numpy.ndarray or list
            Scalars as a (B,) array of their values; arrays as an uninitialized (B, ...) array; all
            other values as a list of B times None.
        """
        field = self.reader.fields[self.field]
        if self.is_in_records:
            return self.reader.records[self.field][sample_ids]
        if isinstance(field, (NDArrayField, TorchTensorField)):
            return np.empty((len(sample_ids), *field.shape), field.dtype)
        return [None] * len(sample_ids)

    def read(self, sample_ids: NDArray[np.int64], out: Any, start: int) -> None:
        """Read the values of a chunk of samples.

        Parameters
        ----------
        sample_ids
            (n,) int64.
        out
            Return value of `allocate`; positions `start` to `start + n - 1` are overwritten.
        start
            Position of the first sample in the batch.

        Raises
        ------
        SampleError
            If a value cannot be read.
        """
        if self.is_in_records:
            return
        for position, sample_id in enumerate(sample_ids, start):
            out[position] = self.reader.value(int(sample_id), self.field)

    def finish(self, out: Any, device: torch.device) -> Any:
        """Convert the values of a batch to a tensor and apply the stages.

        Parameters
        ----------
        out
            Return value of `allocate`, filled.
        device
            Device of the tensor, unless the stages contain a `ToDevice`.

        Returns
        -------
        torch.Tensor, numpy.ndarray or list
            A tensor; `out` itself if it is a list, or an array whose dtype torch does not have.
        """
        if isinstance(out, list) or out.dtype.kind not in TORCH_KINDS:
            return out
        values = torch.from_numpy(out[:, None] if self.keep_axis and out.ndim == 1 else out)
        values = run_stages(self.stages, self.name, values)
        has_device = any(isinstance(stage, ToDevice) for stage in self.stages)
        return values if has_device else ToDevice(device)(values)


def plan_value_reader(
    reader: BetonReader, field: str, name: str, pipeline: Sequence[Any] | None
) -> ValueReader:
    """Create the reader of a field that is not an image.

    Parameters
    ----------
    reader
        The open file.
    field
        Name of the stored field.
    name
        Name of the field in the batch.
    pipeline
        Decoders, `ToTensor`, and callables from tensor to tensor; None for the default.

    Returns
    -------
    ValueReader
        The reader.

    Raises
    ------
    PipelineError
        If the pipeline contains image transforms or other unsuitable elements.
    """
    elements = list(pipeline or ())
    for element in elements:
        if isinstance(element, (ViewTransform, MultiView)):
            kind = type(reader.fields[field]).__name__
            raise PipelineError(
                f"field {name!r}: {type(element).__name__} works on images, "
                f"but the field is a {kind}."
            )
        if isinstance(element, type) or not (
            isinstance(element, (Decoder, ToTensor)) or callable(element)
        ):
            raise PipelineError(
                f"field {name!r}: {element!r} is neither a decoder "
                "nor a callable from tensor to tensor."
            )
    stages = tuple(element for element in elements if not isinstance(element, (Decoder, ToTensor)))
    keep_axis = any(isinstance(element, ToTensor) for element in elements)
    return ValueReader(reader, field, name, stages, keep_axis)
