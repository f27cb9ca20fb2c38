"""Select samples of a dataset: by a list of classes, and a seeded fraction of each class."""

from __future__ import annotations

import codecs
import dataclasses
import unicodedata
import warnings
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ffcv_ssl.errors import SourceError
from ffcv_ssl.fields.hashing import index_hash
from ffcv_ssl.sources.ignored import named
from ffcv_ssl.sources.source import Source
from ffcv_ssl.system.names import printable


def read_class_list(path: str) -> list[str]:
    """Read class names from a text file, one per line.

    Parameters
    ----------
    path
        UTF-8 text, with or without a byte order mark. Empty lines are ignored. The name of a folder
        that is not UTF-8 is listed with its bytes.

    Returns
    -------
    list of str
        The names in the order of the file, which defines the labels.

    Raises
    ------
    SourceError
        If the file cannot be read, is UTF-16, is empty or names a class twice.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        reason = error.strerror or error
        raise SourceError(f"{path}: the class list cannot be read: {reason}.") from error
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in content:
        raise SourceError(f"{path}: the class list is not UTF-8 text (UTF-16?); save it as UTF-8.")
    text = content.removeprefix(codecs.BOM_UTF8).decode("utf-8", "surrogateescape")
    names = [line.strip() for line in text.splitlines() if line.strip()]
    if not names:
        raise SourceError(f"{path}: the class list is empty; wanted one class name per line.")
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        listed = ", ".join(map(repr, twice))
        raise SourceError(f"{path}: the class list names {listed} more than once.")
    return names


def select_classes(source: Source, names: list[str]) -> Source:
    """Keep the samples of the named classes and label them in the order of the names.

    The samples keep their order. A class without samples keeps its label, with a warning, so that a
    validation set that lacks a class is written with the labels of the training set.

    Parameters
    ----------
    source
        Dataset with class names.
    names
        Classes to keep.

    Returns
    -------
    Source
        The selected samples with their new labels.

    Raises
    ------
    SourceError
        If the dataset has no class names, or none of these.
    """
    if source.labels is None or source.class_names is None:
        raise SourceError("a class list needs a dataset with class names; this one has none.")
    check_listed_classes("the dataset", names, source.class_names)
    label_of = {name: label for label, name in enumerate(names)}
    new_labels = np.array([label_of.get(name, -1) for name in source.class_names], np.int64)
    labels = new_labels[source.labels]
    positions = np.flatnonzero(labels >= 0)
    if len(positions):
        _warn_of_absent_classes(names, set(labels[positions].tolist()), source.class_names)
    return dataclasses.replace(source, labels=labels, class_names=list(names), positions=positions)


def check_listed_classes(where: str, names: list[str], known: list[str]) -> None:
    """Check a class list against the classes of a dataset.

    Parameters
    ----------
    where
        Name of the dataset for the messages.
    names
        Classes of the list.
    known
        Classes of the dataset.

    Raises
    ------
    SourceError
        If the dataset has none of the classes, or has one of them twice or in another spelling.
    """
    by_spelling = {_spelling(name): name for name in known if name not in set(names)}
    for name in set(names) - set(known):
        if other := by_spelling.get(_spelling(name)):
            raise SourceError(
                f"{where}: the class list has {printable(name)!r}, but the class is called "
                f"{printable(other)!r}. Use the same letters (capitals and accents count)."
            )
    ambiguous = [name for name, count in Counter(known).items() if count > 1 and name in set(names)]
    if ambiguous:
        raise SourceError(f"{where}: more than one class is called {named(map(repr, ambiguous))}.")
    if not set(names) & set(known):
        raise SourceError(
            f"{where}: none of the {len(names)} listed classes is there: {named(names)}. "
            f"It has {len(known)}: {named(known)}."
        )


def _warn_of_absent_classes(names: list[str], present: set[int], known: list[str]) -> None:
    """Issue a warning that names the listed classes without samples."""
    absent = [
        f"{printable(name)} (label {label})"
        for label, name in enumerate(names)
        if label not in present
    ]
    if not absent:
        return
    others = [name for name in known if name not in set(names)]
    unlisted = f" Classes that are not listed: {named(others)}." if others else ""
    warnings.warn(
        f"{len(absent)} of {len(names)} listed classes have no samples and keep their labels: "
        f"{named(absent)}.{unlisted}",
        stacklevel=3,
    )


def _spelling(name: str) -> str:
    """Return a name without case and with composed accents (macOS stores them decomposed)."""
    return unicodedata.normalize("NFC", name).casefold()


def select_fraction(source: Source, fraction: float, seed: int) -> Source:
    """Keep a fraction of the samples of each class, or of all samples if there are no labels.

    The number of samples of a class is rounded to the nearest integer and is at least 1. The
    samples whose index within the class has the smallest hashes under the seed and the name of the
    class are kept, in the order of the dataset. So a smaller fraction is a subset of a larger one,
    and the samples of a class do not depend on the other classes.

    Parameters
    ----------
    source
        Dataset to select from.
    fraction
        Fraction to keep, in (0, 1].
    seed
        Seed that selects the samples, 0 to 2**64 - 1.

    Returns
    -------
    Source
        The selected samples.
    """
    if fraction == 1:
        return source
    positions = np.arange(len(source.images)) if source.positions is None else source.positions
    if source.labels is None:
        labels = np.zeros(len(positions), np.int64)
    else:
        labels = source.labels[positions]
    kept = []
    for members in _by_class(labels):
        name = "" if source.labels is None else source.class_name(int(labels[members[0]]))
        name_hash = zlib.crc32(name.encode("utf-8", "surrogateescape"))
        (class_seed,) = index_hash(seed, np.array([name_hash]))
        num_kept = max(1, int(len(members) * fraction + 0.5))
        hashes = index_hash(int(class_seed), np.arange(len(members)))
        kept.append(members[np.argsort(hashes, kind="stable")[:num_kept]])
    if kept:
        positions = positions[np.sort(np.concatenate(kept))]
    return dataclasses.replace(source, positions=positions)


def _by_class(labels: NDArray[np.int64]) -> list[NDArray[np.intp]]:
    """Split (N,) labels into the ascending positions of each class that occurs."""
    order = np.argsort(labels, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(labels[order])) + 1)
    return [group for group in groups if len(group)]
