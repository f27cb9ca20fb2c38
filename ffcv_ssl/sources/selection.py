"""Which samples to take: a list of classes, and a seeded fraction of each class."""

from __future__ import annotations

import dataclasses
import zlib
from collections import Counter
from pathlib import Path

import numpy as np

from ffcv_ssl.errors import SourceError
from ffcv_ssl.fields.hashing import index_hash
from ffcv_ssl.sources.source import Source


def read_class_list(path: str) -> list[str]:
    """Read class names, one per line; empty lines are skipped, the order defines the labels.

    Raises
    ------
    SourceError
        If the file cannot be read, is empty or names a class twice.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"{path}: the class list cannot be read: {error}.") from error
    names = [line.strip() for line in lines if line.strip()]
    if not names:
        raise SourceError(f"{path}: the class list is empty; wanted one class name per line.")
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise SourceError(f"{path}: the class list names {', '.join(map(repr, twice))} more than once.")
    return names


def select_classes(source: Source, names: list[str]) -> Source:
    """Keep the samples of the named classes, in the order of the dataset, and label them by the order of the names.

    Raises
    ------
    SourceError
        If the dataset has no class names, or not these.
    """
    if source.labels is None or source.class_names is None:
        raise SourceError("a class list needs a dataset with class names; this one has none.")
    check_classes_known(names, source.class_names)
    new_labels = np.full(len(source.class_names), -1, np.int64)
    for new_label, name in enumerate(names):
        new_labels[source.class_names.index(name)] = new_label
    labels = new_labels[source.labels]
    return dataclasses.replace(source, labels=labels, class_names=list(names), positions=np.flatnonzero(labels >= 0))


def check_classes_known(names: list[str], known: list[str]) -> None:
    """Raise SourceError if the dataset lacks one of the named classes."""
    unknown = sorted(set(names) - set(known))
    if unknown:
        shown = ", ".join(known[:10]) + (" …" if len(known) > 10 else "")
        missing = ", ".join(unknown[:10])
        raise SourceError(f"{len(unknown)} of {len(names)} listed classes are not in the dataset: {missing}. It has {len(known)}: {shown}.")


def select_fraction(source: Source, fraction: float, seed: int) -> Source:
    """Keep a share of each class (of all samples where there are no labels), in the order of the dataset.

    Each class keeps `fraction` of its samples, rounded to the nearest number and at least 1: those whose number within the class hashes
    lowest under the seed and the name of the class. So a smaller fraction is part of a larger one, and a class keeps the same samples
    whatever other classes are listed.

    Parameters
    ----------
    fraction
        In (0, 1].
    seed
        In [0, 2**64).
    """
    if fraction == 1:
        return source
    positions = np.arange(len(source.images)) if source.positions is None else source.positions
    labels = np.zeros(len(positions), np.int64) if source.labels is None else source.labels[positions]
    kept = []
    for members in _by_class(labels):
        name = "" if source.labels is None else source.class_name(int(labels[members[0]]))
        (class_seed,) = index_hash(seed, np.array([zlib.crc32(name.encode("utf-8", "surrogateescape"))]))
        num_kept = max(1, int(len(members) * fraction + 0.5))
        chosen = np.argsort(index_hash(int(class_seed), np.arange(len(members))), kind="stable")[:num_kept]
        kept.append(members[chosen])
    return dataclasses.replace(source, positions=positions[np.sort(np.concatenate(kept))] if kept else positions)


def _by_class(labels: np.ndarray) -> list[np.ndarray]:
    """Split (N,) labels into the ascending positions of each class that occurs."""
    order = np.argsort(labels, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(labels[order])) + 1)
    return [group for group in groups if len(group)]
