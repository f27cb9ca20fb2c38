"""What the labels of a training and a validation file mean together, decided before a training."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ffcv_ssl.beton.reader import BetonReader
from ffcv_ssl.errors import ConfigError
from ffcv_ssl.train.samples import missing_labels, read_labels

UNKNOWN = -1  # number of a class that the training file does not show: no classifier says it
SHOWN = 5  # names that a message lists


class Numbering:
    """From the labels that a file stores to the numbers of the classes.

    Parameters
    ----------
    labels
        (K,) int64, different, ascending: the labels that occur in the file.
    numbers
        (K,) int64: number of the class that each means, or `UNKNOWN`.
    """

    def __init__(self, labels: np.ndarray, numbers: np.ndarray):
        self.tables = {torch.device("cpu"): (torch.from_numpy(labels), torch.from_numpy(numbers))}

    def __call__(self, labels: Tensor) -> Tensor:
        """Map int64 labels of any shape to numbers of classes, on their device."""
        if labels.device not in self.tables:
            on_cpu = self.tables[torch.device("cpu")]
            self.tables[labels.device] = on_cpu[0].to(labels.device), on_cpu[1].to(labels.device)
        known, numbers = self.tables[labels.device]
        places = torch.searchsorted(known, labels.contiguous()).clamp_max(len(known) - 1)
        return torch.where(known[places] == labels, numbers[places], UNKNOWN)


@dataclass(frozen=True)
class Classes:
    """The classes that occur in a training file, numbered from 0 in the order of their labels.

    Attributes
    ----------
    field
        Name of the label field.
    labels
        Label in the training file of each class.
    names
        Name of each class; None if the training file has no class names.
    train, val
        Numbers of the classes for the labels of the files; `val` is None without a validation file.
    remarks
        What a reader of the scores should know, a sentence or two each.
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
        """What a classifier's outputs mean, for the checkpoint that holds its weights."""
        return {"field": self.field, "labels": list(self.labels), "names": None if self.names is None else list(self.names)}


@dataclass(frozen=True)
class _FileLabels:
    """The labels of a file: which occur, ascending, how many samples have each, their names."""

    path: str
    labels: np.ndarray
    counts: np.ndarray
    names: list[str] | None


def match_classes(train: BetonReader, val: BetonReader | None, label: str) -> Classes:
    """Number the classes of the training file, and find those of the validation file among them.

    By class names where both files have them, else by the labels as they stand.

    Raises
    ------
    ConfigError
        If a file has no such labels (see `read_labels`), labels outside of its class names or, where
        they have to be matched, a name twice; if the validation file shows classes that the training
        file does not know by name, or none of its classes.
    """
    known = _file_labels(train, label)
    names = None if known.names is None else [known.names[i] for i in known.labels]
    remarks = _remarks_on_one(known)
    numbering = None
    if val is not None:
        other = _file_labels(val, label)
        meant = _meanings(known, other)
        places = np.searchsorted(known.labels, meant).clip(max=len(known.labels) - 1)
        numbers = np.where(known.labels[places] == meant, places, UNKNOWN)
        numbering = Numbering(other.labels, numbers)
        remarks += _remarks_on_two(known, other, meant, numbers)
    return Classes(
        field=label,
        labels=known.labels.tolist(),
        names=names,
        train=Numbering(known.labels, np.arange(len(known.labels))),
        val=numbering,
        remarks=tuple(remarks),
    )


def class_labels(batch: Any, label: str, device: torch.device, classes: Classes | None = None) -> Tensor:
    """The (B,) int64 numbers of the classes of a batch, on `device`; without `classes` the labels as they stand.

    Raises
    ------
    ConfigError
        If the batch has no such field.
    """
    if label not in batch.names:
        raise missing_labels("the training file", label, batch.names)
    labels = batch[label].to(device, non_blocking=True).long().flatten()
    return labels if classes is None else classes.train(labels)


def listed(values: Iterable[Any]) -> str:
    """The first few values, and how many there are if not all are shown."""
    shown = [str(value) for value in values]
    return ", ".join(shown[:SHOWN]) + (f", … ({len(shown):,} in all)" if len(shown) > SHOWN else "")


def _file_labels(reader: BetonReader, label: str) -> _FileLabels:
    labels, counts = np.unique(read_labels(reader, label), return_counts=True)
    names = reader.class_names
    outside = [] if names is None else [n for n in labels.tolist() if not 0 <= n < len(names)]
    if names is not None and outside:
        raise ConfigError(
            f"data.label: {reader.path} names {len(names)} classes, for labels 0 to {len(names) - 1}, and its field '{label}' holds "
            f"{listed(outside)}. Write the file with names for all classes, or without class names; leave out samples without label."
        )
    return _FileLabels(reader.path, labels, counts, names)


def _meanings(train: _FileLabels, val: _FileLabels) -> np.ndarray:
    """For each label of the validation file the label of the training file that means the same."""
    if train.names is None or val.names is None or train.names == val.names:
        return val.labels
    for file in (train, val):
        twice = [name for name, count in Counter(file.names).items() if count > 1]
        if twice:
            raise ConfigError(
                f"{file.path}: names several classes {listed(map(repr, twice))}, so the classes of {train.path} and {val.path} cannot be "
                "matched by name. Write the files with one list of classes, or with different names."
            )
    position = {name: label for label, name in enumerate(train.names)}
    unknown = [val.names[label] for label in val.labels if val.names[label] not in position]
    if unknown:
        raise ConfigError(
            f"data.val: {val.path} shows classes that {train.path} does not know: {listed(map(repr, unknown))}. "
            f"That file's classes: {listed(map(repr, train.names))}. Their images could only be classified wrongly: "
            f"write {val.path} without them, or train on a file that has them."
        )
    return np.array([position[val.names[label]] for label in val.labels], dtype=np.int64)


def _remarks_on_one(file: _FileLabels) -> list[str]:
    """What is odd about the labels of the training file."""
    remarks, num_classes, num_images = [], len(file.labels), int(file.counts.sum())
    if num_classes == 1:
        remarks.append(f"{file.path}: all images are of one class; accuracies will say nothing.")
    elif 2 * num_classes > num_images:
        remarks.append(
            f"{file.path}: {num_classes:,} classes for {num_images:,} images. If the labels are ids of images, accuracies will say nothing."
        )
    if (negative := file.labels < 0).any():
        remarks.append(
            f"{file.path}: {file.counts[negative].sum():,} images have negative labels ({listed(file.labels[negative])}), which count as "
            "classes like any other. If they mark images without label, leave these out of the file."
        )
    return remarks


def _remarks_on_two(train: _FileLabels, val: _FileLabels, meant: np.ndarray, numbers: np.ndarray) -> list[str]:
    """How the classes of the files differ; ConfigError if they have none in common."""
    has_names = train.names is not None and val.names is not None
    shown = partial(_shown, train.names if has_names else None)
    remarks = []
    if (meant != val.labels).any():
        remarks.append(f"{val.path} numbers its classes otherwise than {train.path}; they are matched by class name.")
    unknown, missing = meant[numbers == UNKNOWN], np.setdiff1d(train.labels, meant)
    if len(unknown) == len(meant):
        raise ConfigError(
            f"data.val: {train.path} has no image of any class that {val.path} shows: {shown(unknown)}. "
            f"It has {shown(train.labels)}. Every image would be classified wrongly: give files of the same classes."
        )
    if len(unknown):
        count, total = int(val.counts[numbers == UNKNOWN].sum()), int(val.counts.sum())
        share = f"{count:,} of {total:,} images of {val.path}"
        remarks.append(f"{train.path} has no image of {shown(unknown)}: {share} can only be classified wrongly.")
    if len(missing):
        remarks.append(f"{val.path} has no image of {shown(missing)}, of {len(train.labels):,} classes of {train.path}.")
    if (len(unknown) or len(missing)) and not has_names:
        nameless = " and ".join(file.path for file in (train, val) if file.names is None)
        remarks.append(
            f"No class names in {nameless}: labels are compared as numbers. If the files number their classes apart, the scores are wrong; "
            "write both with class names."
        )
    return remarks


def _shown(names: Sequence[str] | None, labels: np.ndarray) -> str:
    """Classes in a message: by name where there are names, else by label."""
    word = "class" if names is not None else "label"
    plural = word if len(labels) == 1 else f"{word}{'es' if word == 'class' else 's'}"
    return f"{plural} {listed(repr(names[i]) for i in labels) if names is not None else listed(labels)}"
