"""`ffcv-ssl info`: show what a .beton file contains and how it was written."""

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ffcv_ssl.cli.config.parser import parse
from ffcv_ssl.cli.config.sections import FileConfig
from ffcv_ssl.system.names import printable

if TYPE_CHECKING:
    from ffcv_ssl.beton.reader import BetonReader

DESCRIPTION = (
    "Show the fields, samples, sizes, resolutions and class names of a .beton file, and the "
    "program and options that wrote it."
)
MAX_NAMES = 20  # class names to show; ImageNet has a thousand
SCALAR_KINDS = "iuf"


def main(argv: Sequence[str] | None = None) -> int:
    """Describe the file and return the exit status."""
    from ffcv_ssl.reader import Reader

    path = parse("ffcv-ssl info", {"file": FileConfig}, argv, DESCRIPTION)["file"].path
    with Reader(path) as reader:
        lines = _file_lines(reader, path)
        sys.stdout.write("".join(f"{printable(line)}\n" for line in lines))
    return 0


def _file_lines(reader: "BetonReader", path: str) -> Iterator[str]:
    """Yield the lines that describe a file; `path` is shown as the user gave it."""
    size = _size_text(os.fstat(reader.fileno()).st_size)
    page_size = _size_text(reader.page_size)
    yield f"{path}: {reader.num_samples:,} samples, {size}, pages of {page_size}"
    yield from _aligned(_origin(reader))
    for name, field in reader.fields.items():
        yield ""
        yield f"{name}: {type(field).__name__}"
        written = reader.metadata.get("fields", {}).get(name, {})
        options = {option: value for option, value in written.items() if option != "type"}
        facts = {"written with": _listed(options)} if options else {}
        yield from _aligned({**facts, **_field_facts(reader, name)})


def _origin(reader: "BetonReader") -> dict[str, str]:
    """Return the writer, the source, the checksums and the classes of a file."""
    metadata = reader.metadata
    facts = {"written by": "unknown (FFCV?)"}
    if "writer" in metadata:
        facts["written by"] = f"{metadata['writer']}, seed {metadata.get('seed')}"
    if isinstance(metadata.get("source"), Mapping):
        facts["source"] = _listed(metadata["source"])
    if isinstance(metadata.get("counts"), Mapping):
        facts["counts"] = _listed(metadata["counts"])
    facts["checksums"] = _checksums(reader)
    if reader.class_names is not None:
        names = reader.class_names
        more = f" … and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
        facts["classes"] = f"{len(names)}: {', '.join(names[:MAX_NAMES])}{more}"
    return facts


def _checksums(reader: "BetonReader") -> str:
    """Return which parts of the file have checksums, and how to add the missing ones."""
    if reader.has_value_checksums:
        return "one per value"
    present = "one per page" if reader.has_checksums else "none"
    return f"{present}; `ffcv-ssl seal` adds one per value"


def _field_facts(reader: "BetonReader", name: str) -> dict[str, str]:
    """Describe the values of one field."""
    if not reader.num_samples:
        return {}
    from ffcv_ssl.fields import NDArrayField, RGBImageField

    field, records = reader.fields[name], reader.records[name]
    facts = {}
    if isinstance(field, RGBImageField):
        facts = _image_facts(records)
    elif records.dtype.kind in SCALAR_KINDS and field.pointer_name is None:
        values, counts = np.unique(records, return_counts=True)
        facts["values"] = f"{values[0]:,} to {values[-1]:,}, {len(values):,} different"
        if records.dtype.kind != "f":
            facts["samples per value"] = _span(counts)
    elif isinstance(field, NDArrayField):
        facts["array"] = f"{field.dtype} {tuple(field.shape)}"
    if field.pointer_name is not None:
        sizes = reader.extents(name)[1]
        per_sample = f"{sizes.mean():,.0f} bytes per sample ({_span(sizes)})"
        facts["stored"] = f"{_size_text(int(sizes.sum()))}, {per_sample}"
    return facts


def _image_facts(records: NDArray[Any]) -> dict[str, str]:
    """Describe the formats and the resolutions of (N,) image records."""
    from ffcv_ssl.fields.image import MODE_RAW

    num_raw = int((records["mode"] == MODE_RAW).sum())
    counts = {"JPEG": len(records) - num_raw, "raw pixels": num_raw}
    widths, heights = records["width"].astype(np.int64), records["height"].astype(np.int64)
    num_different = len(np.unique(widths << 16 | heights))
    if num_different == 1:
        resolution = f"{widths[0]} x {heights[0]}, all the same"
    else:
        median = f"{np.median(widths):.0f} x {np.median(heights):.0f}"
        resolution = (
            f"width {_span(widths)}, height {_span(heights)}, median {median}, "
            f"{num_different:,} different"
        )
    images = ", ".join(f"{count:,} {name}" for name, count in counts.items() if count)
    return {"images": images, "resolution": resolution}


def _aligned(facts: Mapping[str, str]) -> Iterator[str]:
    """Return an indented line per fact, with the names padded to one width."""
    return (f"  {name:<18}{value}" for name, value in facts.items())


def _listed(values: Mapping[str, Any]) -> str:
    """Return the values that are not None as one line."""
    return ", ".join(f"{name}={value}" for name, value in values.items() if value is not None)


def _span(values: NDArray[Any]) -> str:
    """Return the smallest and the largest value, or the only one."""
    low, high = values.min(), values.max()
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _size_text(size_bytes: int) -> str:
    """Return a size in the largest unit in which it is at least 1."""
    for unit, factor in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if size_bytes >= factor:
            return f"{size_bytes / factor:,.4g} {unit}"
    return f"{size_bytes:,} bytes"
