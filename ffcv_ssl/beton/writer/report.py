"""Report of a conversion, and the list of skipped samples."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ffcv_ssl.beton.writer.encoding import SkippedSample
from ffcv_ssl.system.names import printable

COLUMNS = ("index", "path", "reason")


@dataclass(frozen=True)
class WriteReport:
    """Result of `DatasetWriter.from_indexed_dataset`.

    Parameters
    ----------
    path
        Path of the file.
    num_samples
        Number of samples in the file.
    converted, kept, reencoded
        Numbers of images that were encoded as JPEG, stored as they were, and encoded again.
    skipped
        Number of samples that were left out because they failed.
    counts
        Number of values per note of the fields.
    skipped_samples
        Skipped samples (index, path, reason), in the order in which they would have been written.
    skipped_path
        Path of the CSV file that lists the skipped samples; None if there are none.
    size_bytes
        Size of the file in bytes.
    page_size
        Page size of the file in bytes.
    seconds
        Wall-clock time in seconds.
    """

    path: str
    num_samples: int
    converted: int
    kept: int
    reencoded: int
    skipped: int
    counts: Mapping[str, int]
    skipped_samples: tuple[SkippedSample, ...]
    skipped_path: str | None
    size_bytes: int
    page_size: int
    seconds: float


def skipped_to_csv(skipped: Sequence[SkippedSample]) -> bytes:
    """Return the list of skipped samples as UTF-8 CSV, one line per sample.

    Parameters
    ----------
    skipped
        Skipped samples in file order.

    Returns
    -------
    bytes
        The CSV with a header line; empty if no sample was skipped.
    """
    if not skipped:
        return b""
    text = io.StringIO()
    rows = ((each.index, printable(each.path), printable(each.reason)) for each in skipped)
    csv.writer(text, lineterminator="\n").writerows([COLUMNS, *rows])
    return text.getvalue().encode("utf-8")
