"""A dataset to convert: images by index, their labels, the names of the classes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from ffcv_ssl.fields import Field, IntField

ImageValue = Any  # whatever RGBImageField takes: a path, bytes, an array, a PIL image, a tensor


class Indexable(Protocol):
    """What is asked of a dataset, and of its images."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


class PathList:
    """Paths below one folder, kept without the folder's name: a million of them travel to the writer's workers.

    Parameters
    ----------
    root
        Folder; made absolute, so that the working directory may change.
    names
        Paths relative to it.
    """

    def __init__(self, root: str, names: Sequence[str]):
        self.root = os.path.abspath(root)
        self.names = names

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> str:
        return os.path.join(self.root, self.names[index])


@dataclass(frozen=True)
class Source:
    """An indexable dataset, fit for `DatasetWriter.from_indexed_dataset`; it pickles, so workers may be spawned.

    Parameters
    ----------
    images
        Image values by index: a list of paths, an array (N, H, W, C) uint8, any object with `__len__` and `__getitem__`.
    labels
        (N,) int64 class indices; None for a dataset without classes.
    class_names
        By label; None where they are not known.
    description
        What the file is to remember of its origin, fit for JSON.
    positions
        (num_samples,) int64: which of the images, in this order. Default: all.
    notes
        What was passed over when the dataset was opened, a line each, for people. Not part of the
        description: the same images give the same file, whatever lies beside them.
    """

    images: Indexable
    labels: np.ndarray | None
    class_names: list[str] | None
    description: dict = field(default_factory=dict)
    positions: np.ndarray | None = None
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.images) if self.positions is None else len(self.positions)

    def __getitem__(self, index: int) -> tuple[ImageValue, int] | tuple[ImageValue]:
        """`(image, label)`, or `(image,)` without labels."""
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}.")
        position = index if self.positions is None else int(self.positions[index])
        if self.labels is None:
            return (self.images[position],)
        return self.images[position], int(self.labels[position])

    def fields(self, image_field: Field) -> dict[str, Field]:
        """The fields to write: `image` as given, and `label` where there are labels."""
        return {"image": image_field} if self.labels is None else {"image": image_field, "label": IntField()}

    def class_name(self, label: int) -> str:
        """Name of a class; its number where names are not known."""
        return str(label) if self.class_names is None else self.class_names[label]

    def describe(self) -> dict:
        """The description and the number of samples, fit for JSON."""
        return {**self.description, "num_samples": len(self)}
