"""`ffcv-ssl info`: what a .beton file holds, and how it was written."""

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ffcv_ssl.cli.config.parser import parse
from ffcv_ssl.cli.config.sections import FileConfig
from ffcv_ssl.system.names import printable

if TYPE_CHECKING:
    from ffcv_ssl.beton.reader import BetonReader

DESCRIPTION = "Show the fields, samples, sizes, resolutions and class names of a .beton file, and how it was written."
MOST_NAMES = 20  # class names shown; ImageNet has a thousand
SCALAR_KINDS = "iuf"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; errors pass to the caller."""
    from ffcv_ssl.reader import Reader

    path = parse("ffcv-ssl info", {"file": FileConfig}, argv, DESCRIPTION)["file"].path
    with Reader(path) as reader:
        sys.stdout.write("".join(f"{printable(line)}\n" for line in file_lines(reader, path)))
    return 0


def file_lines(reader: "BetonReader", path: str) -> Iterator[str]:
    """Describe a whole file, line by line; `path` as the user gave it."""
    size = os.fstat(reader.fileno()).st_size
    yield f"{path}: {reader.num_samples:,} samples, {size_text(size)}, pages of {size_text(reader.page_size)}"
    yield from aligned(origin(reader))
    for name, field in reader.fields.items():
        yield ""
        yield f"{name}: {type(field).__name__}"
        written = reader.metadata.get("fields", {}).get(name, {})
        options = {option: value for option, value in written.items() if option != "type"}
        yield from aligned({**({"written with": listed(options)} if options else {}), **field_facts(reader, name)})


def origin(reader: "BetonReader") -> dict[str, str]:
    """Who wrote the file, from what."""
    metadata = reader.metadata
    facts = {"written by": f"{metadata['writer']}, seed {metadata.get('seed')}" if "writer" in metadata else "unknown (FFCV?)"}
    if isinstance(metadata.get("source"), Mapping):
        facts["source"] = listed(metadata["source"])
    if isinstance(metadata.get("counts"), Mapping):
        facts["counts"] = listed(metadata["counts"])
    facts["checksums"] = checksums(reader)
    if reader.class_names is not None:
        names = reader.class_names
        more = f" … and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
        facts["classes"] = f"{len(names)}: {', '.join(names[:MOST_NAMES])}{more}"
    return facts


def checksums(reader: "BetonReader") -> str:
    """What the file has checksums of, and what to do where some are missing."""
    if reader.has_value_checksums:
        return "of every value"
    return f"{'of pages' if reader.has_checksums else 'none'}; `ffcv-ssl seal` adds one per value"


def field_facts(reader: "BetonReader", name: str) -> dict[str, str]:
    """What the values of one field are like."""
    if not reader.num_samples:
        return {}
    from ffcv_ssl.fields import NDArrayField, RGBImageField

    field, records = reader.fields[name], reader.records[name]
    facts = {}
    if isinstance(field, RGBImageField):
        facts = image_facts(records)
    elif records.dtype.kind in SCALAR_KINDS and field.pointer_name is None:
        values, counts = np.unique(records, return_counts=True)
        facts["values"] = f"{values[0]:,} to {values[-1]:,}, {len(values):,} different"
        if records.dtype.kind != "f":
            facts["samples per value"] = span(counts)
    elif isinstance(field, NDArrayField):
        facts["array"] = f"{field.dtype} {tuple(field.shape)}"
    if field.pointer_name is not None:
        sizes = reader.extents(name)[1]
        facts["stored"] = f"{size_text(int(sizes.sum()))}, {sizes.mean():,.0f} bytes per sample ({span(sizes)})"
    return facts


def image_facts(records: np.ndarray) -> dict[str, str]:
    """Formats and resolutions of the images of a file."""
    from ffcv_ssl.fields.image import MODE_RAW

    num_raw = int((records["mode"] == MODE_RAW).sum())
    formats = {"JPEG": len(records) - num_raw, "raw pixels": num_raw}
    widths, heights = records["width"].astype(np.int64), records["height"].astype(np.int64)
    num_different = len(np.unique(widths << 16 | heights))
    resolution = f"{widths[0]} x {heights[0]}, all the same"
    if num_different > 1:
        middle = f"{np.median(widths):.0f} x {np.median(heights):.0f}"
        resolution = f"width {span(widths)}, height {span(heights)}, median {middle}, {num_different:,} different"
    return {"images": ", ".join(f"{count:,} {name}" for name, count in formats.items() if count), "resolution": resolution}


def aligned(facts: Mapping[str, str]) -> Iterator[str]:
    """Facts as indented lines, the names in one column."""
    return (f"  {name:<18}{value}" for name, value in facts.items())


def listed(values: Mapping[str, Any]) -> str:
    """A mapping in one line, without what was not set."""
    return ", ".join(f"{name}={value}" for name, value in values.items() if value is not None)


def span(values: np.ndarray) -> str:
    """Smallest and largest value, or the one there is."""
    low, high = values.min(), values.max()
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def size_text(size_bytes: int) -> str:
    """Bytes in the unit that reads best."""
    for unit, factor in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if size_bytes >= factor:
            return f"{size_bytes / factor:,.4g} {unit}"
    return f"{size_bytes:,} bytes"
