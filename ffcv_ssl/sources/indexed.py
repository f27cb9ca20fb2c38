"""Datasets with `__len__` and `__getitem__`, as in PyTorch, torchvision and Hugging Face."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ffcv_ssl.errors import SourceError
from ffcv_ssl.sources.selection import select_classes, select_fraction
from ffcv_ssl.sources.source import ImageValue, Indexable, Source

IMAGE, LABEL = "image", "label"  # keys of samples that are dicts


class ImageColumn:
    """The images of a dataset, without their labels.

    The image of a sample is its value `image` if it is a dict, its first value if it is a tuple or
    list, else the sample itself.

    Parameters
    ----------
    dataset
        Dataset with samples of one of these forms.
    """

    def __init__(self, dataset: Indexable):
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> ImageValue:
        sample = self.dataset[index]
        if isinstance(sample, Mapping):
            return _image_and_label(index, sample)[0]
        return sample[0] if isinstance(sample, (tuple, list)) else sample


def indexed(
    dataset: Indexable,
    classes: list[str] | None = None,
    fraction: float = 1.0,
    seed: int = 0,
    class_names: list[str] | None = None,
) -> Source:
    """Wrap a dataset in order to convert some of its classes or a fraction of its samples.

    `DatasetWriter` accepts a whole dataset without this function.

    Parameters
    ----------
    dataset
        Its samples are `(image, label)`, `(image,)`, a bare image, or dicts with `image` and
        perhaps `label`, whose other keys are ignored. The labels come from the attribute `targets`
        (torchvision) or the column `label` (Hugging Face). Without either, every sample is read
        once to collect them.
    classes
        Names of the classes to keep; their order defines the labels. None keeps all classes and
        labels.
    fraction
        Fraction of the samples of each class to keep, in (0, 1].
    seed
        Seed that selects the samples kept by `fraction`, 0 to 2**64 - 1.
    class_names
        Names in the order of the labels. None takes the attribute `classes` of the dataset, or the
        names in its `features`, if there are any.

    Returns
    -------
    Source
        The selected samples.

    Raises
    ------
    SourceError
        If samples have another form, labels are not integers from 0, or a class is unknown.

    Examples
    --------
    >>> import numpy as np
    >>> from ffcv_ssl.sources import indexed
    >>> image = np.zeros((8, 8, 3), np.uint8)
    >>> dataset = [(image, 0), (image, 1), (image, 2), (image, 1)]
    >>> source = indexed(dataset, classes=["dog"], class_names=["cat", "dog", "owl"])
    >>> len(source), source[0][1], source.class_names
    (2, 0, ['dog'])
    """
    names = class_names if class_names is not None else _class_names(dataset)
    names = None if names is None else [str(name) for name in names]
    labels = _labels(dataset)
    if labels is not None and len(labels):
        highest = np.inf if names is None else len(names) - 1
        if labels.min() < 0 or labels.max() > highest:
            span = f"{labels.min()} to {labels.max()}"
            raise SourceError(
                f"labels go from {span}, wanted 0 to {len(names) - 1 if names else '…'}."
            )
    description = {"source": type(dataset).__name__, "fraction": fraction, "seed": seed}
    source = Source(ImageColumn(dataset), labels, None if labels is None else names, description)
    if classes is not None:
        source = select_classes(source, classes)
    return select_fraction(source, fraction, seed)


def _class_names(dataset: Any) -> Any:
    """Return the names that a torchvision or Hugging Face dataset has for its labels, or None."""
    features = getattr(dataset, "features", None)
    label = features.get(LABEL) if isinstance(features, Mapping) else None
    return getattr(dataset, "classes", getattr(label, "names", None))


def _labels(dataset: Indexable) -> NDArray[np.int64] | None:
    """Return the (N,) labels of a dataset; None if its samples have none."""
    num_samples = len(dataset)
    labels = getattr(dataset, "targets", None)
    if labels is None and LABEL in (getattr(dataset, "column_names", None) or ()):
        labels = list(dataset[LABEL])  # type: ignore[index]  # a column: no image is decoded
    if labels is None:
        labels = [_label(index, dataset[index]) for index in range(num_samples)]
        num_missing = sum(label is None for label in labels)
        if num_missing == num_samples:
            return None
        if num_missing:
            raise SourceError(f"{num_missing} of {num_samples} samples have no label.")
    values = np.asarray(labels)
    if values.shape != (num_samples,) or (num_samples and values.dtype.kind not in "iu"):
        kind = f"{values.dtype} {values.shape}"
        raise SourceError(f"labels are {kind}, wanted ({num_samples},) integers.")
    return values.astype(np.int64)


def _image_and_label(index: int, sample: Mapping[Any, Any]) -> tuple[ImageValue, Any]:
    """Return image and label of a dict; the label is None if there is none."""
    if IMAGE not in sample:
        keys = ", ".join(map(str, sample))
        advice = f"Rename one to {IMAGE!r} and the labels to {LABEL!r}."
        raise SourceError(f"sample {index} has no {IMAGE!r}; it has the keys {keys}. {advice}")
    return sample[IMAGE], sample.get(LABEL)


def _label(index: int, sample: Any) -> Any:
    """Return the label of a sample; None if there is none."""
    if isinstance(sample, Mapping):
        return _image_and_label(index, sample)[1]
    if not isinstance(sample, (tuple, list)) or len(sample) == 1:
        return None
    if len(sample) != 2:
        raise SourceError(
            f"sample {index} has {len(sample)} values, wanted (image, label), (image,) or a bare "
            "image."
        )
    return sample[1]
