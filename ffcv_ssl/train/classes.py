"""Classes of a training and a validation file, matched before a training begins."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ffcv_ssl.beton.reader import BetonReader
from ffcv_ssl.errors import ConfigError
from ffcv_ssl.train.samples import missing_labels, read_labels

# Index of a class that does not occur in the training file. No classifier predicts it.
UNKNOWN = -1
MAX_LISTED = 5  # names in a message


class Numbering:
    """Mapping from the labels stored in a file to class indices.

    Parameters
    ----------
    labels
        (K,) int64, distinct, ascending: the labels that occur in the file.
    numbers
        (K,) int64: class index of each label, or `UNKNOWN`.
    """

    def __init__(self, labels: NDArray[np.int64], numbers: NDArray[np.int64]) -> None:
        cpu = torch.device("cpu")
        self.tables = {cpu: (torch.from_numpy(labels), torch.from_numpy(numbers))}

    def __call__(self, labels: Tensor) -> Tensor:
        """Map labels to class indices.

        Parameters
        ----------
        labels
            int64 labels, of any shape.

        Returns
        -------
        Tensor
            int64 class indices, of the same shape and on the same device. `UNKNOWN` for a label
            that does not occur in the file.
        """
        if labels.device not in self.tables:
            on_cpu = self.tables[torch.device("cpu")]
            self.tables[labels.device] = on_cpu[0].to(labels.device), on_cpu[1].to(labels.device)
        known, numbers = self.tables[labels.device]
        rows = torch.searchsorted(known, labels.contiguous()).clamp_max(len(known) - 1)
        return torch.where(known[rows] == labels, numbers[rows], UNKNOWN)


@dataclass(frozen=True)
class Classes:
    """The classes that occur in a training file, indexed from 0 in ascending order of their labels.

    Attributes
    ----------
    field
        Name of the label field.
    labels
        Label of each class in the training file.
    names
        Name of each class, or None if the training file has no class names.
    train, val
        Mappings from the labels of each file to class indices. `val` is None without a validation
        file.
    remarks
        Remarks on the files that help to interpret the scores; a sentence or two each.
    """

    field: str
    labels: Sequence[int]
    names: Sequence[str] | None
    train: Numbering
    val: Numbering | None
    remarks: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    def state(self) -> dict[str, Any]:
        """Return what the checkpoint of a classifier stores about its classes."""
        names = None if self.names is None else list(self.names)
        return {"field": self.field, "labels": list(self.labels), "names": names}


@dataclass(frozen=True)
class _FileLabels:
    """Labels of a file: distinct labels, ascending; number of samples with each; class names."""

    path: str
    labels: NDArray[np.int64]
    counts: NDArray[np.int64]
    names: list[str] | None


def match_classes(train: BetonReader, val: BetonReader | None, label: str) -> Classes:
    """Index the classes of a training file, and match those of a validation file to them.

    The classes are matched by name if both files have class names, and otherwise by label.

    Parameters
    ----------
    train
        Reader of the training file.
    val
        Reader of the validation file, or None.
    label
        Name of the label field of both files.

    Returns
    -------
    Classes
        Classes of the training file, with remarks on both files.

    Raises
    ------
    ConfigError
        If a file has no such labels (see `read_labels`) or labels outside of its class names; if
        classes have to be matched by name and a name occurs twice or is unknown to the training
        file; or if the files have no class in common.
    """
    known = _file_labels(train, label)
    names = None if known.names is None else [known.names[i] for i in known.labels]
    remarks = _training_remarks(known)
    numbering = None
    if val is not None:
        other = _file_labels(val, label)
        matched = _matching_labels(known, other)
        rows = np.searchsorted(known.labels, matched).clip(max=len(known.labels) - 1)
        numbers = np.where(known.labels[rows] == matched, rows, UNKNOWN)
        numbering = Numbering(other.labels, numbers)
        remarks += _matching_remarks(known, other, matched, numbers)
    return Classes(
        field=label,
        labels=known.labels.tolist(),
        names=names,
        train=Numbering(known.labels, np.arange(len(known.labels))),
        val=numbering,
        remarks=tuple(remarks),
    )


def class_labels(
    batch: Any, label: str, device: torch.device, classes: Classes | None = None
) -> Tensor:
    """Return the class indices of a batch.

    Parameters
    ----------
    batch
        Batch of a loader.
    label
        Name of the label field.
    device
        Device of the result.
    classes
        Classes of the training file. If None, labels are class indices.

    Returns
    -------
    Tensor
        (B,) int64, on `device`.

    Raises
    ------
    ConfigError
        If the batch has no such field.
    """
    if label not in batch.names:
        raise missing_labels("the training file", label, batch.names)
    labels: Tensor = batch[label].to(device, non_blocking=True).long().flatten()
    return labels if classes is None else classes.train(labels)


def _join(values: Iterable[Any]) -> str:
    """Join the first few values, followed by the number of values if there are more."""
    texts = [str(value) for value in values]
    rest = f", … ({len(texts):,} in all)" if len(texts) > MAX_LISTED else ""
    return ", ".join(texts[:MAX_LISTED]) + rest


def _file_labels(reader: BetonReader, label: str) -> _FileLabels:
    """Read the labels of a file, and check that its class names cover them."""
    labels, counts = np.unique(read_labels(reader, label), return_counts=True)
    names = reader.class_names
    if names is not None:
        outside = [n for n in labels.tolist() if not 0 <= n < len(names)]
        if outside:
            raise ConfigError(
                f"data.label: {reader.path} has names for {len(names)} classes, labels 0 to "
                f"{len(names) - 1}, but its field '{label}' contains {_join(outside)}. Write the "
                "file with names for all classes, or without class names; leave out samples "
                "without a label."
            )
    return _FileLabels(reader.path, labels, counts, names)


def _matching_labels(train: _FileLabels, val: _FileLabels) -> NDArray[np.int64]:
    """Return, for each label of the validation file, the label of the same class in training."""
    if train.names is None or val.names is None or train.names == val.names:
        return val.labels
    for file in (train, val):
        repeated = [name for name, count in Counter(file.names).items() if count > 1]
        if repeated:
            raise ConfigError(
                f"{file.path}: several classes have the name {_join(map(repr, repeated))}, so the "
                f"classes of {train.path} and {val.path} cannot be matched by name. Write both "
                "files with the same list of classes, or with distinct names."
            )
    position = {name: label for label, name in enumerate(train.names)}
    unknown = [val.names[label] for label in val.labels if val.names[label] not in position]
    if unknown:
        raise ConfigError(
            f"data.val: {val.path} contains classes that {train.path} does not have: "
            f"{_join(map(repr, unknown))}. The classes of the training file are "
            f"{_join(map(repr, train.names))}. No classifier can predict the others: write "
            f"{val.path} without them, or train on a file that has them."
        )
    return np.array([position[val.names[label]] for label in val.labels], dtype=np.int64)


def _training_remarks(file: _FileLabels) -> list[str]:
    """Return remarks on unusual labels of the training file."""
    remarks: list[str] = []
    num_classes, num_images = len(file.labels), int(file.counts.sum())
    if num_classes == 1:
        remarks.append(f"{file.path}: all images are of one class; accuracies are meaningless.")
    elif 2 * num_classes > num_images:
        remarks.append(
            f"{file.path}: {num_classes:,} classes for {num_images:,} images. If the labels are "
            "ids of images, accuracies are meaningless."
        )
    if (negative := file.labels < 0).any():
        remarks.append(
            f"{file.path}: {file.counts[negative].sum():,} images have negative labels "
            f"({_join(file.labels[negative])}), which count as classes. If they mark images "
            "without a label, leave these images out of the file."
        )
    return remarks


def _matching_remarks(
    train: _FileLabels,
    val: _FileLabels,
    matched: NDArray[np.int64],
    numbers: NDArray[np.int64],
) -> list[str]:
    """Return remarks on how the classes of the files differ; ConfigError if none is common."""
    has_names = train.names is not None and val.names is not None
    describe = partial(_describe, train.names if has_names else None)
    remarks = []
    if (matched != val.labels).any():
        remarks.append(
            f"{val.path} numbers its classes differently from {train.path}; they are matched by "
            "class name."
        )
    unknown, missing = matched[numbers == UNKNOWN], np.setdiff1d(train.labels, matched)
    if len(unknown) == len(matched):
        raise ConfigError(
            f"data.val: {train.path} has no image of any class in {val.path}: {describe(unknown)}. "
            f"It has {describe(train.labels)}. Every prediction would be wrong: give files of the "
            "same classes."
        )
    if len(unknown):
        count, total = int(val.counts[numbers == UNKNOWN].sum()), int(val.counts.sum())
        remarks.append(
            f"{train.path} has no image of {describe(unknown)}: every prediction for {count:,} of "
            f"{total:,} images of {val.path} is wrong."
        )
    if len(missing):
        remarks.append(
            f"{val.path} has no image of {describe(missing)}, of {len(train.labels):,} classes of "
            f"{train.path}."
        )
    if (len(unknown) or len(missing)) and not has_names:
        nameless = " and ".join(file.path for file in (train, val) if file.names is None)
        remarks.append(
            f"No class names in {nameless}: labels are compared as numbers. If the files number "
            "their classes differently, the scores are wrong; write both with class names."
        )
    return remarks


def _describe(names: Sequence[str] | None, labels: NDArray[np.int64]) -> str:
    """Describe classes in a message: by name if there are names, else by label."""
    if names is not None:
        word = "class" if len(labels) == 1 else "classes"
        return f"{word} {_join(repr(names[i]) for i in labels)}"
    return f"{'label' if len(labels) == 1 else 'labels'} {_join(labels)}"
