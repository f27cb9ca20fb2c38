"""Random access to a .beton file as a torch dataset."""

import os
from collections.abc import Mapping
from typing import Any

import torch.utils.data

from ffcv_ssl.beton.reader import BetonReader
from ffcv_ssl.fields.base import Field


class BetonDataset(torch.utils.data.Dataset[tuple[Any, ...]]):
    """A map-style dataset of the samples of a .beton file.

    A sample is a tuple of decoded values, in the file's order of fields. Images are
    (H, W, 3) uint8 RGB arrays. The dataset can be pickled and used by the workers of a torch
    `DataLoader`.

    Parameters
    ----------
    path
        Path of the .beton file.
    custom_fields
        Field name → field class, for fields of types that `ffcv_ssl.fields` does not define.

    Attributes
    ----------
    reader
        The open file, a `BetonReader`.

    Raises
    ------
    BetonFormatError
        If the file is damaged or not a .beton file.
    FieldNotFound
        If `custom_fields` names a field that the file does not have.

    Examples
    --------
    >>> from ffcv_ssl.fields import FloatField, IntField
    >>> from ffcv_ssl.loader import BetonDataset
    >>> from ffcv_ssl.writer import DatasetWriter
    >>> fields = {"label": IntField(), "score": FloatField()}
    >>> writer = DatasetWriter("scores.beton", fields, num_workers=0, progress=False)
    >>> report = writer.from_indexed_dataset([(0, 0.5), (1, 0.25)])
    >>> dataset = BetonDataset("scores.beton")
    >>> len(dataset)
    2
    >>> label, score = dataset[1]
    >>> int(label), float(score)
    (1, 0.25)
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        custom_fields: Mapping[str, type[Field]] | None = None,
    ):
        self.reader = BetonReader(path, custom_fields or {})

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.reader)

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        """Return one sample.

        Parameters
        ----------
        index
            Position in the file, counted from 0; negative values count from the end.

        Returns
        -------
        tuple
            One decoded value per field.

        Raises
        ------
        IndexError
            If the file has no such sample.
        SampleError
            If the sample cannot be read or decoded.
        """
        position = index + len(self) if index < 0 else index
        if not 0 <= position < len(self):
            raise IndexError(f"{self.reader.path}: no sample {index}; the file has {len(self)}.")
        return tuple(self.reader.value(position, name) for name in self.reader.fields)
