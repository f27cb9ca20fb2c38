"""Which samples to take: a list of classes, and a seeded fraction of each class."""

from __future__ import annotations

import codecs
import dataclasses
import unicodedata
import warnings
import zlib
from collections import Counter
from pathlib import Path

import numpy as np

from ffcv_ssl.errors import SourceError
from ffcv_ssl.fields.hashing import index_hash
from ffcv_ssl.sources.listing import named
from ffcv_ssl.sources.source import Source
from ffcv_ssl.system.names import printable


def read_class_list(path: str) -> list[str]:
    """Read class names, one per line; empty lines are skipped, the order defines the labels.

    Names of folders that are not UTF-8 are listed by their bytes.

    Raises
    ------
    SourceError
        If the file cannot be read, is UTF-16, is empty or names a class twice.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise SourceError(f"{path}: the class list cannot be read: {error.strerror or error}.") from error
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in content:
        raise SourceError(f"{path}: the class list is not UTF-8 text (UTF-16?); save it as UTF-8.")
    lines = content.removeprefix(codecs.BOM_UTF8).decode("utf-8", "surrogateescape").splitlines()
    names = [line.strip() for line in lines if line.strip()]
    if not names:
        raise SourceError(f"{path}: the class list is empty; wanted one class name per line.")
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise SourceError(f"{path}: the class list names {', '.join(map(repr, twice))} more than once.")
    return names


def select_classes(source: Source, names: list[str]) -> Source:
    """Keep the samples of the named classes, in the order of the dataset, and label them by the order of the names.

    A class without samples keeps its label, and a warning names it: so a validation set that lacks a
    class is written with the labels of the training set.

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
    """Refuse a class list of which nothing is there, or a name that is there in another spelling.

    Raises
    ------
    SourceError
        Naming what is there.
    """
    by_spelling = {_spelling(name): name for name in known if name not in set(names)}
    for name in set(names) - set(known):
        if other := by_spelling.get(_spelling(name)):
            raise SourceError(
                f"{where}: the class list has {printable(name)!r}, the class there is called "
                f"{printable(other)!r}. Use the same letters (capitals and accents count)."
            )
    ambiguous = [name for name, count in Counter(known).items() if count > 1 and name in set(names)]
    if ambiguous:
        raise SourceError(f"{where}: more than one class is called {named(map(repr, ambiguous))}.")
    if not set(names) & set(known):
        raise SourceError(
            f"{where}: none of the {len(names)} listed classes is there: {named(names)}. It has {len(known)}: {named(known)}."
        )


def _warn_of_absent_classes(names: list[str], present: set[int], known: list[str]) -> None:
    absent = [f"{printable(name)} (label {label})" for label, name in enumerate(names) if label not in present]
    if not absent:
        return
    others = [name for name in known if name not in set(names)]
    beside = f" Classes that are not listed: {named(others)}." if others else ""
    warnings.warn(
        f"{len(absent)} of {len(names)} listed classes have no samples and keep their labels: {named(absent)}.{beside}",
        stacklevel=3,
    )


def _spelling(name: str) -> str:
    """The name without regard to capitals, and to how accents are encoded (macOS splits them off)."""
    return unicodedata.normalize("NFC", name).casefold()


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
