"""Which images two files share, byte for byte, found without reading the files whole."""

import hashlib
import os
from dataclasses import dataclass

import numpy as np

from ffcv_ssl.beton.reader import BetonReader

CONFIRMED = 256  # pairs whose bytes are compared, and without checksums images that are looked at
CONFIRMED_BYTES = 2**26  # of them together, at most
LOOKED_INTO = 65_536  # training images of which a window is read, without checksums
WINDOW_BYTES = 256  # in the middle of the stored image
COPIES = 4  # training images that are compared with one validation image
FEW = 16  # images that are compared where index and sizes are equal
SHOWN = 3  # pairs that a remark names


@dataclass(frozen=True)
class Overlap:
    """Images of a validation file that are also in the training file.

    Attributes
    ----------
    count
        Of the `looked_at`: of all of them where `is_exact`, else those that were found in the part of
        the training file that was read.
    looked_at, num_val
        Validation images that were looked for, and that there are.
    is_exact
        Whether every image of both files was compared, by size and checksum.
    pairs
        The first, (validation sample, training sample), their bytes compared.
    """

    count: int
    looked_at: int
    num_val: int
    is_exact: bool
    pairs: tuple[tuple[int, int], ...]


def overlap_remarks(train: BetonReader, val: BetonReader, field: str) -> list[str]:
    """Say which images of the validation file `train` holds; nothing if none were found."""
    if any(field not in file.fields or file.fields[field].pointer_name is None for file in (train, val)):
        return []  # no stored images: the loader says so
    if is_same_file(train, val, field):
        return [f"{val.path} is the same file as {train.path}, or a copy: it says nothing about new images. Give a file of others."]
    found = find_overlap(train, val, field)
    if not found.count:
        return []
    share = f"{found.count:,} of {found.looked_at:,} images ({found.count / found.looked_at:.1%})"
    where = f"of {val.path}" if found.is_exact else f"that were looked at, of {found.num_val:,} in {val.path},"
    pairs = ", ".join(f"{one} = {other}" for one, other in found.pairs)
    least = "" if found.is_exact else "At least "
    return [f"{least}{share} {where} are also in {train.path}, byte for byte (samples {pairs}): scores on them flatter."]


def is_same_file(one: BetonReader, other: BetonReader, field: str) -> bool:
    """Whether both readers have one file open, or one is a copy of the other."""
    if os.path.samestat(os.fstat(one.fileno()), os.fstat(other.fileno())):
        return True
    if one.fingerprint != other.fingerprint:
        return False
    # The fingerprint of a file from FFCV leaves its values out.
    some = np.linspace(0, one.num_samples - 1, min(one.num_samples, FEW), dtype=np.int64)
    return one.has_checksums or all(one.read(i, field) == other.read(i, field) for i in some)


def find_overlap(train: BetonReader, val: BetonReader, field: str, seed: int = 0) -> Overlap:
    """Find stored values of `field` that both files hold.

    With checksums of the values in both files, all are compared by size and checksum, and some of the
    equal ones byte by byte. Without, some validation images are compared with training images of the
    same size, as many as `LOOKED_INTO` allows. Images that were stored with other settings (quality,
    resolution) are not recognised.

    Parameters
    ----------
    train, val
        The files.
    field
        Name of a field with stored values, of both.
    seed
        Of what is looked at where not everything is.
    """
    sizes = [file.extents(field)[1] for file in (train, val)]
    checksums = [file.value_checksums(field) for file in (train, val)]
    contents = [values.astype(np.uint64) for values in checksums if values is not None]
    is_exact = len(contents) == 2
    if is_exact:
        chosen = [np.arange(train.num_samples), np.arange(val.num_samples)]
    else:
        generator = np.random.default_rng(seed)
        some = np.sort(generator.permutation(val.num_samples)[:CONFIRMED])
        alike = np.flatnonzero(np.isin(sizes[0], sizes[1][some]))
        chosen = [np.sort(generator.permutation(alike)[:LOOKED_INTO]), some]
        contents = [_windows(file, field, ids) for file, ids in zip((train, val), chosen, strict=True)]
    keys = [(size[ids] << np.uint64(32)) ^ content for size, ids, content in zip(sizes, chosen, contents, strict=True)]
    candidates = _candidates(keys[0], keys[1], sizes[1][chosen[1]] > 0)
    tried, pairs = _confirm(train, val, field, [(chosen[1][i], chosen[0][places]) for i, places in candidates])
    count = round(len(candidates) * len(pairs) / tried) if tried else 0  # all of them, where all candidates were confirmed
    return Overlap(count, len(chosen[1]), val.num_samples, is_exact, tuple(pairs[:SHOWN]))


def _windows(file: BetonReader, field: str, ids: np.ndarray) -> np.ndarray:
    """(n,) uint64 digests of the middle of some stored values."""
    pointers, sizes = file.extents(field)
    buffer, digests = bytearray(WINDOW_BYTES), np.empty(len(ids), np.uint64)
    for i, (pointer, size) in enumerate(zip(pointers[ids].tolist(), sizes[ids].tolist(), strict=True)):
        length = min(size, WINDOW_BYTES)
        if length:
            file.read_into(pointer + (size - length) // 2, length, buffer)
        digests[i] = int.from_bytes(hashlib.blake2b(buffer[:length], digest_size=8).digest(), "little")
    return digests


def _candidates(train_keys: np.ndarray, val_keys: np.ndarray, is_stored: np.ndarray) -> list[tuple[int, np.ndarray]]:
    """Positions of the validation keys that the training file has, each with a few positions there."""
    order = np.argsort(train_keys, kind="stable")
    ordered = train_keys[order]
    first, last = np.searchsorted(ordered, val_keys), np.searchsorted(ordered, val_keys, side="right")
    return [(i, order[first[i] : min(last[i], first[i] + COPIES)]) for i in np.flatnonzero((last > first) & is_stored).tolist()]


def _confirm(
    train: BetonReader, val: BetonReader, field: str, candidates: list[tuple[int, np.ndarray]]
) -> tuple[int, list[tuple[int, int]]]:
    """How many candidates, evenly spaced, were compared by their bytes, and which are equal."""
    tried, budget, pairs = 0, CONFIRMED_BYTES, []
    for place in np.unique(np.linspace(0, max(0, len(candidates) - 1), CONFIRMED, dtype=np.int64)) if candidates else ():
        sample, others = candidates[place]
        content = val.read(sample, field)
        equal = next((int(other) for other in others if train.read(other, field) == content), None)
        if equal is not None:
            pairs.append((int(sample), equal))
        tried, budget = tried + 1, budget - 2 * len(content)
        if budget < 0:
            break
    return tried, pairs
