"""The list of the samples that a conversion left out."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from ffcv_ssl.beton.writer.encoding import SkippedSample
from ffcv_ssl.system.names import printable

COLUMNS = ("index", "path", "reason")


def list_bytes(skipped: Sequence[SkippedSample]) -> bytes:
    """The list as CSV that every reader takes: UTF-8, a line per sample; empty if there is none."""
    if not skipped:
        return b""
    text = io.StringIO()
    rows = ((each.index, printable(each.path), printable(each.reason)) for each in skipped)
    csv.writer(text, lineterminator="\n").writerows([COLUMNS, *rows])
    return text.getvalue().encode("utf-8")
