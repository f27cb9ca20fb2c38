"""`ffcv-ssl write`: convert a dataset to one .beton file."""

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal

from ffcv_ssl.cli.config.parser import parse, print_config
from ffcv_ssl.errors import ConfigError
from ffcv_ssl.sources.config import SourceConfig
from ffcv_ssl.system.names import printable
from ffcv_ssl.system.paths import LocalPath

if TYPE_CHECKING:
    from ffcv_ssl.beton.writer.dataset_writer import DatasetWriter, WriteReport
    from ffcv_ssl.sources import Source

DESCRIPTION = (
    "Convert the images of a folder, an archive or an array file to one .beton file. The file "
    "appears under its name only when it is complete."
)
MAX_NAMES = 5  # class names to show
COUNT_TEXTS = {  # counts of the image field
    "kept": "JPEGs kept unchanged",
    "reencoded": "JPEGs re-encoded",
    "repaired": "JPEGs re-encoded because they decode with warnings",
    "converted": "other images encoded as JPEG",
    "raw": "images stored as raw pixels",
}


@dataclass(frozen=True)
class DataConfig(SourceConfig):
    """The dataset to read and the file to write."""

    path: LocalPath = field(
        kw_only=True, metadata={"help": "Folder, archive or file of the dataset"}
    )
    out: LocalPath = field(
        kw_only=True,
        metadata={
            "help": "Path of the .beton file to write; an existing file is replaced when the new "
            "one is complete"
        },
    )


@dataclass(frozen=True)
class ImageConfig:
    """How to store images."""

    write_mode: Literal["jpg", "raw", "smart", "proportion"] = field(
        default="jpg",
        metadata={
            "help": "jpg: store all images as JPEG; raw: store all as raw pixels; smart: store as "
            "JPEG if the pixels take more than `image.smart_threshold` bytes; proportion: store a "
            "random fraction `image.compress_probability` as JPEG, selected by `write.seed`"
        },
    )
    max_resolution: int | None = field(
        default=None,
        metadata={"help": "Longest side in pixels, >= 1; larger images are scaled down"},
    )
    jpeg_quality: int = field(
        default=90, metadata={"help": "Quality of the JPEGs that are encoded, 1 to 100"}
    )
    smart_threshold: int | None = field(
        default=None,
        metadata={
            "help": "For `image.write_mode=smart`: size limit of images stored as raw pixels, in "
            "bytes (3 x width x height), >= 0"
        },
    )
    compress_probability: float = field(
        default=0.5,
        metadata={
            "help": "For `image.write_mode=proportion`: probability that an image is stored as "
            "JPEG, in [0, 1]"
        },
    )
    reencode: Literal["auto", "always", "never"] = field(
        default="auto",
        metadata={
            "help": "Treatment of JPEGs of the dataset. auto: keep those that need no change; "
            "always: re-encode all; never: fail if one needs a change"
        },
    )
    check: Literal["decode", "header"] = field(
        default="decode",
        metadata={
            "help": "Check of JPEGs that are kept. decode: decode each and re-encode it if there "
            "are warnings; header: read the header only"
        },
    )
    resample: Literal["bilinear", "area"] = field(
        default="bilinear",
        metadata={
            "help": "Filter for scaling down: bilinear (antialiased), or area (as in FFCV; needs "
            "OpenCV)"
        },
    )

    def __post_init__(self) -> None:
        if self.write_mode == "smart" and self.smart_threshold is None:
            raise ConfigError("write_mode=smart needs smart_threshold, in bytes of pixels.")


@dataclass(frozen=True)
class WriteConfig:
    """How to run the conversion."""

    workers: int = field(
        default=-1,
        metadata={
            "help": "Number of worker processes that encode: -1 starts one per core, 0 encodes in "
            "the main process"
        },
    )
    page_size: int = field(
        default=8, metadata={"help": "Page size in MiB, a power of two from 2 to 1024"}
    )
    chunksize: int = field(
        default=100, metadata={"help": "Number of samples sent to a worker at a time, >= 1"}
    )
    shuffle: bool = field(
        default=False,
        metadata={"help": "Write the samples in a random order given by `write.seed`"},
    )
    seed: int = field(
        default=0,
        metadata={
            "help": "Seed for `write.shuffle` and `image.write_mode=proportion`, 0 to 2**64 - 1"
        },
    )
    on_error: Literal["raise", "skip"] = field(
        default="raise",
        metadata={
            "help": "Treatment of samples that cannot be encoded. raise: stop; skip: leave them "
            "out and list them in OUT.skipped.csv"
        },
    )
    progress: bool = field(
        default=True, metadata={"help": "Show a progress bar if standard error is a terminal"}
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Convert the dataset and return the exit status."""
    sections = {"data": DataConfig, "image": ImageConfig, "write": WriteConfig}
    configs = parse("ffcv-ssl write", sections, argv, DESCRIPTION)
    writer, source = prepare(**configs)
    print_config(configs)  # after the checks, so that no table hides an error
    write = configs["write"]
    report = writer.from_indexed_dataset(
        source, chunksize=write.chunksize, shuffle_indices=write.shuffle
    )
    sys.stdout.write(_report_text(report) + _source_text(source))
    return 0


def prepare(
    data: DataConfig, image: ImageConfig, write: WriteConfig
) -> tuple["DatasetWriter", "Source"]:
    """Create the writer and open the dataset, without reading an image.

    Parameters
    ----------
    data
        Dataset to read and file to write.
    image
        How to store images.
    write
        How to run the conversion.

    Returns
    -------
    writer
        Writer of the file.
    source
        Dataset to convert.

    Raises
    ------
    ConfigError
        If an option is out of its range.
    FieldError
        If the image options do not go together.
    SourceError
        If the dataset cannot be opened.
    """
    from ffcv_ssl.fields import RGBImageField
    from ffcv_ssl.sources import open_source
    from ffcv_ssl.system.atomic import resolve_target
    from ffcv_ssl.writer import DatasetWriter

    if write.chunksize < 1:
        raise ConfigError(f"--write.chunksize: at least 1, got {write.chunksize}.")
    resolve_target(data.out)
    image_field = RGBImageField(**asdict(image))
    options = {option.name: getattr(data, option.name) for option in fields(SourceConfig)}
    source = open_source(SourceConfig(**options))
    metadata: dict[str, Any] = {"class_names": source.class_names, "source": source.describe()}
    writer = DatasetWriter(
        data.out,
        source.fields(image_field),
        page_size=write.page_size << 20,
        num_workers=write.workers,
        seed=write.seed,
        on_error=write.on_error,
        metadata=metadata,
        progress=write.progress and sys.stderr.isatty(),
    )
    return writer, source


def _report_text(report: "WriteReport") -> str:
    """Summarize the conversion."""
    rate = report.num_samples / max(report.seconds, 1e-9)
    size = f"{report.size_bytes / 2**20:,.1f} MiB"
    speed = f"{report.seconds:.1f} s, {rate:,.0f} samples/s"
    lines = [f"{printable(report.path)}: {report.num_samples:,} samples, {size}, {speed}"]
    lines += [
        f"  {count:,} {COUNT_TEXTS.get(name, name)}"
        for name, count in report.counts.items()
        if count
    ]
    if report.skipped:
        path = printable(report.skipped_path or "")
        lines.append(f"  {report.skipped:,} skipped, listed in {path}")
    return "\n".join(lines) + "\n"


def _source_text(source: "Source") -> str:
    """List the classes of a dataset and the files that were ignored."""
    from ffcv_ssl.sources.ignored import named

    lines = list(source.notes)
    if source.class_names is not None:
        count = len(source.class_names)
        classes = "class" if count == 1 else "classes"
        lines.insert(0, f"{count:,} {classes}: {named(source.class_names, MAX_NAMES)}")
    return "".join(f"  {line}\n" for line in lines)
