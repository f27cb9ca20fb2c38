"""Any object with `__len__` and `__getitem__`, as PyTorch's datasets are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ffcv_ssl.errors import SourceError
from ffcv_ssl.sources.selection import select_classes, select_fraction
from ffcv_ssl.sources.source import ImageValue, Indexable, Source

IMAGE, LABEL = "image", "label"  # keys of samples that are dicts


class ImageColumn:
    """The first value of each sample, its `image` where samples are dicts, or the sample itself."""

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
    dataset: Indexable, classes: list[str] | None = None, fraction: float = 1.0, seed: int = 0, class_names: list[str] | None = None
) -> Source:
    """Wrap a dataset, to convert only some of its classes or a fraction of it. (All of it, `DatasetWriter` takes as it is.)

    Parameters
    ----------
    dataset
        Its samples are `(image, label)`, `(image,)`, the bare image, or dicts with `image` and perhaps
        `label`, whose other keys are passed over. The labels come from its `targets`, as torchvision's
        datasets have them, or from its column `label`, as Hugging Face's have it; a dataset without
        either is read once to collect them.
    classes
        Names of the classes to keep; their order defines the labels. Default: all, as they are.
    fraction
        Share of each class to keep, in (0, 1].
    seed
        Chooses the samples of the fraction, in [0, 2**64).
    class_names
        By label. Default: the dataset's own `classes`, or the names in its `features`, if any.

    Raises
    ------
    SourceError
        If samples are of another form, labels are not integers from 0, or the classes are not known.
    """
    names = class_names if class_names is not None else _class_names(dataset)
    names = None if names is None else [str(name) for name in names]
    labels = _labels(dataset)
    if labels is not None and len(labels) and (labels.min() < 0 or (names is not None and labels.max() >= len(names))):
        raise SourceError(f"labels go from {labels.min()} to {labels.max()}, wanted 0 to {len(names) - 1 if names else '…'}.")
    description = {"source": type(dataset).__name__, "fraction": fraction, "seed": seed}
    source = Source(ImageColumn(dataset), labels, None if labels is None else names, description)
    if classes is not None:
        source = select_classes(source, classes)
    return select_fraction(source, fraction, seed)


def _class_names(dataset: Any) -> Any:
    """The names that a dataset of torchvision or of Hugging Face has for its labels, if any."""
    features = getattr(dataset, "features", None)
    label = features.get(LABEL) if isinstance(features, Mapping) else None
    return getattr(dataset, "classes", getattr(label, "names", None))


def _labels(dataset: Indexable) -> np.ndarray | None:
    """(N,) int64 labels of a dataset; None if its samples have none."""
    num_samples = len(dataset)
    labels = getattr(dataset, "targets", None)
    if labels is None and LABEL in (getattr(dataset, "column_names", None) or ()):
        labels = list(dataset[LABEL])  # type: ignore[index]  # without decoding the images
    if labels is None:
        labels = [_label(index, dataset[index]) for index in range(num_samples)]
        num_missing = sum(label is None for label in labels)
        if num_missing == num_samples:
            return None
        if num_missing:
            raise SourceError(f"{num_missing} of {num_samples} samples have no label.")
    labels = np.asarray(labels)
    if labels.shape != (num_samples,) or (num_samples and labels.dtype.kind not in "iu"):
        raise SourceError(f"labels are {labels.dtype} {labels.shape}, wanted ({num_samples},) integers.")
    return labels.astype(np.int64)


def _image_and_label(index: int, sample: Mapping) -> tuple[ImageValue, Any]:
    if IMAGE not in sample:
        keys = ", ".join(map(str, sample))
        advice = f"Rename one to {IMAGE!r} and the labels to {LABEL!r}."
        raise SourceError(f"sample {index} has no {IMAGE!r}; it has the keys {keys}. {advice}")
    return sample[IMAGE], sample.get(LABEL)


def _label(index: int, sample: Any) -> Any:
    if isinstance(sample, Mapping):
        return _image_and_label(index, sample)[1]
    if not isinstance(sample, (tuple, list)) or len(sample) == 1:
        return None
    if len(sample) != 2:
        raise SourceError(f"sample {index} has {len(sample)} values, wanted (image, label), (image,) or the image.")
    return sample[1]
