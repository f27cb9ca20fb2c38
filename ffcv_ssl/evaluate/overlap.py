"""Search for images that two files share, byte for byte, without reading the whole files."""

import hashlib
import os
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ffcv_ssl.beton.reader import BetonReader

MAX_CONFIRMED = 256  # pairs to compare byte by byte; without checksums, validation images to search
MAX_CONFIRMED_BYTES = 2**26  # total size of these pairs
MAX_WINDOWS = 65_536  # training images of which to read a window, without checksums
WINDOW_BYTES = 256  # size of that window, in the middle of the stored image
MAX_COPIES = 4  # training images to compare with one validation image
NUM_PROBED = 16  # images to compare if two files have the same index
MAX_LISTED = 3  # pairs in a remark


@dataclass(frozen=True)
class Overlap:
    """Images of a validation file that are also in the training file.

    Attributes
    ----------
    count
        Number of shared images: among all `num_searched` if `is_exact`, else among the part of the
        training file that was read.
    num_searched
        Number of validation images that were searched for in the training file.
    num_val
        Number of validation images.
    is_exact
        Whether every image of both files was compared, by size and checksum.
    pairs
        Examples: (validation sample, training sample), compared byte by byte.
    """

    count: int
    num_searched: int
    num_val: int
    is_exact: bool
    pairs: tuple[tuple[int, int], ...]


def overlap_remarks(train: BetonReader, val: BetonReader, field: str) -> list[str]:
    """Return a remark if the training file holds images of the validation file.

    Parameters
    ----------
    train, val
        Readers of the files.
    field
        Name of the image field.

    Returns
    -------
    list[str]
        One remark, or none.
    """
    if any(
        field not in file.fields or file.fields[field].pointer_name is None for file in (train, val)
    ):
        return []  # no stored images; the loader raises the error
    if is_same_file(train, val, field):
        return [
            f"{val.path} is the same file as {train.path}, or a copy of it; its scores do not show "
            "generalization. Give a file of other images."
        ]
    found = find_overlap(train, val, field)
    if not found.count:
        return []
    bound = "" if found.is_exact else "At least "
    share = f"{found.count:,} of {found.num_searched:,} images"
    percent = f"{found.count / found.num_searched:.1%}"
    where = "of" if found.is_exact else f"sampled from the {found.num_val:,} of"
    pairs = ", ".join(f"{one} = {other}" for one, other in found.pairs)
    return [
        f"{bound}{share} ({percent}) {where} {val.path} are also in {train.path}, byte for "
        f"byte (samples {pairs}); scores on them are too high."
    ]


def is_same_file(one: BetonReader, other: BetonReader, field: str) -> bool:
    """Return whether both readers have the same file open, or one file is a copy of the other."""
    if os.path.samestat(os.fstat(one.fileno()), os.fstat(other.fileno())):
        return True
    if one.fingerprint != other.fingerprint:
        return False
    if one.has_checksums:
        return True
    # The fingerprint of a file from FFCV does not cover the values.
    count = min(one.num_samples, NUM_PROBED)
    samples = np.linspace(0, one.num_samples - 1, count, dtype=np.int64)
    return all(one.read(i, field) == other.read(i, field) for i in samples)


def find_overlap(train: BetonReader, val: BetonReader, field: str, seed: int = 0) -> Overlap:
    """Search for stored values that both files hold.

    If both files have checksums of the values, all values are compared by size and checksum, and
    some equal pairs byte by byte. Otherwise, some validation images are compared with at most
    `MAX_WINDOWS` training images of the same size. Images stored with other settings (quality,
    resolution) are not found.

    Parameters
    ----------
    train, val
        Readers of the files.
    field
        Name of a field with stored values in both files.
    seed
        Random seed for the selection of images, if not all are compared.

    Returns
    -------
    Overlap
        Number of shared images, and examples.
    """
    sizes = [file.extents(field)[1] for file in (train, val)]
    checksums = [file.value_checksums(field) for file in (train, val)]
    contents = [values.astype(np.uint64) for values in checksums if values is not None]
    is_exact = len(contents) == 2
    if is_exact:
        chosen = [np.arange(train.num_samples), np.arange(val.num_samples)]
    else:
        generator = np.random.default_rng(seed)
        some = np.sort(generator.permutation(val.num_samples)[:MAX_CONFIRMED])
        same_size = np.flatnonzero(np.isin(sizes[0], sizes[1][some]))
        chosen = [np.sort(generator.permutation(same_size)[:MAX_WINDOWS]), some]
        contents = [
            _windows(file, field, ids) for file, ids in zip((train, val), chosen, strict=True)
        ]
    keys = [
        (size[ids] << np.uint64(32)) ^ content
        for size, ids, content in zip(sizes, chosen, contents, strict=True)
    ]
    candidates = _candidates(keys[0], keys[1], sizes[1][chosen[1]] > 0)
    samples = [(chosen[1][i], chosen[0][positions]) for i, positions in candidates]
    num_compared, pairs = _confirm(train, val, field, samples)
    # Extrapolated, unless all candidates were compared.
    count = round(len(candidates) * len(pairs) / num_compared) if num_compared else 0
    examples = tuple(pairs[:MAX_LISTED])
    return Overlap(count, len(chosen[1]), val.num_samples, is_exact, examples)


def _windows(file: BetonReader, field: str, ids: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Return (n,) uint64 digests of the middle of some stored values."""
    pointers, sizes = file.extents(field)
    buffer, digests = bytearray(WINDOW_BYTES), np.empty(len(ids), np.uint64)
    for i, (pointer, size) in enumerate(
        zip(pointers[ids].tolist(), sizes[ids].tolist(), strict=True)
    ):
        length = min(size, WINDOW_BYTES)
        if length:
            file.read_into(pointer + (size - length) // 2, length, buffer)
        digests[i] = int.from_bytes(
            hashlib.blake2b(buffer[:length], digest_size=8).digest(), "little"
        )
    return digests


def _candidates(
    train_keys: NDArray[np.uint64], val_keys: NDArray[np.uint64], is_stored: NDArray[np.bool_]
) -> list[tuple[int, NDArray[np.int64]]]:
    """Return the positions of validation keys in both files, with a few training positions each."""
    order = np.argsort(train_keys, kind="stable")
    ordered = train_keys[order]
    first = np.searchsorted(ordered, val_keys)
    last = np.searchsorted(ordered, val_keys, side="right")
    found = np.flatnonzero((last > first) & is_stored).tolist()
    return [(i, order[first[i] : min(last[i], first[i] + MAX_COPIES)]) for i in found]


def _confirm(
    train: BetonReader,
    val: BetonReader,
    field: str,
    candidates: list[tuple[int, NDArray[np.int64]]],
) -> tuple[int, list[tuple[int, int]]]:
    """Compare evenly spaced candidates byte by byte; return their number and the equal pairs."""
    if not candidates:
        return 0, []
    num_compared, remaining_bytes = 0, MAX_CONFIRMED_BYTES
    pairs = []
    for i in np.unique(np.linspace(0, len(candidates) - 1, MAX_CONFIRMED, dtype=np.int64)):
        sample, others = candidates[i]
        content = val.read(sample, field)
        equal = next((int(other) for other in others if train.read(other, field) == content), None)
        if equal is not None:
            pairs.append((int(sample), equal))
        num_compared += 1
        remaining_bytes -= 2 * len(content)
        if remaining_bytes < 0:
            break
    return num_compared, pairs
