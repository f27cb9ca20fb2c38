"""A dataset to convert: images by index, their labels and the names of the classes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ffcv_ssl.fields import Field, IntField

ImageValue = Any  # any value that RGBImageField encodes: a path, bytes, an array, a PIL image


class Indexable(Protocol):
    """An object with a length and items: a dataset, or its images."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


class PathList:
    """Paths below a folder, stored relative to it.

    The writer sends the list to its worker processes; a million relative paths are much smaller
    than absolute ones.

    Parameters
    ----------
    root
        The folder. Stored as an absolute path, so that the working directory may change.
    names
        Paths relative to `root`.

    Examples
    --------
    >>> from ffcv_ssl.sources.source import PathList
    >>> PathList("/images", ["cat/0.jpg", "dog/1.jpg"])[1]
    '/images/dog/1.jpg'
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
    """An indexable dataset for `DatasetWriter.from_indexed_dataset`.

    It can be pickled, so the writer may start its worker processes with any method.

    Parameters
    ----------
    images
        Images by index: a list of paths, an (N, H, W, C) uint8 array, or any object with `__len__`
        and `__getitem__`.
    labels
        (N,) int64 class indices. None for a dataset without classes.
    class_names
        Names in the order of the labels. None if they are unknown.
    description
        Origin of the dataset, to be stored in the file. Must be serializable as JSON.
    positions
        (num_samples,) int64 positions in `images` of the samples, in their order. None selects all.
    notes
        Sentences about files that were ignored when the dataset was opened. Not part of the
        description, so that the same images give the same file whatever lies next to them.

    Examples
    --------
    >>> import numpy as np
    >>> from ffcv_ssl.sources import Source
    >>> images = np.zeros((3, 32, 32, 3), np.uint8)
    >>> source = Source(images, np.array([0, 1, 1]), ["cat", "dog"])
    >>> image, label = source[2]
    >>> len(source), image.shape, source.class_name(label)
    (3, (32, 32, 3), 'dog')
    """

    images: Indexable
    labels: NDArray[np.int64] | None
    class_names: list[str] | None
    description: dict[str, Any] = field(default_factory=dict)
    positions: NDArray[np.int64] | None = None
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.images) if self.positions is None else len(self.positions)

    def __getitem__(self, index: int) -> tuple[ImageValue, int] | tuple[ImageValue]:
        """Return `(image, label)`, or `(image,)` if there are no labels."""
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}.")
        position = index if self.positions is None else int(self.positions[index])
        if self.labels is None:
            return (self.images[position],)
        return self.images[position], int(self.labels[position])

    def fields(self, image_field: Field) -> dict[str, Field]:
        """Return the fields of the file to write.

        Parameters
        ----------
        image_field
            Field that encodes the images.

        Returns
        -------
        dict
            `image`, and `label` if there are labels.
        """
        fields = {"image": image_field}
        return fields if self.labels is None else fields | {"label": IntField()}

    def class_name(self, label: int) -> str:
        """Return the name of a class.

        Parameters
        ----------
        label
            Class index, >= 0.

        Returns
        -------
        str
            The name; the index as text if names are unknown.
        """
        return str(label) if self.class_names is None else self.class_names[label]

    def describe(self) -> dict[str, Any]:
        """Return the description and the number of samples, serializable as JSON.

        Returns
        -------
        dict
            `description` and `num_samples`.
        """
        return {**self.description, "num_samples": len(self)}
