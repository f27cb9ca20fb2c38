"""`ffcv-ssl write`: convert a dataset into one .beton file."""

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

DESCRIPTION = "Convert the images of a folder, an archive or an array file into one .beton file, whole or not at all."
MOST_NAMES = 5  # class names shown
NOTES = {  # what the image field counts, in words
    "kept": "JPEGs kept as they were",
    "reencoded": "JPEGs encoded again",
    "repaired": "JPEGs encoded again because they decode with warnings only",
    "converted": "other images encoded as JPEG",
    "raw": "images stored as pixels",
}


@dataclass(frozen=True)
class DataConfig(SourceConfig):
    """What to read, and where to write it."""

    path: LocalPath = field(kw_only=True, metadata={"help": "folder, archive or file of the dataset"})
    out: LocalPath = field(kw_only=True, metadata={"help": "the .beton file to write; replaced only when everything is written"})


@dataclass(frozen=True)
class ImageConfig:
    """How images are stored."""

    write_mode: Literal["jpg", "raw", "smart", "proportion"] = field(
        default="jpg",
        metadata={
            "help": "jpg: all as JPEG; raw: all as pixels; smart: JPEG where the pixels take more than smart_threshold bytes; "
            "proportion: JPEG for a share of compress_probability, chosen by seed and index"
        },
    )
    max_resolution: int | None = field(default=None, metadata={"help": "longest side in pixels, >= 1; larger images are shrunk"})
    jpeg_quality: int = field(default=90, metadata={"help": "quality of the JPEGs encoded here, 1 to 100"})
    smart_threshold: int | None = field(default=None, metadata={"help": "for smart: bytes of pixels (3 x width x height), >= 0"})
    compress_probability: float = field(default=0.5, metadata={"help": "for proportion: share of JPEGs, in [0, 1]"})
    reencode: Literal["auto", "always", "never"] = field(
        default="auto",
        metadata={"help": "JPEGs of the dataset: auto keeps those that need no change; always encodes all again; never refuses the others"},
    )
    check: Literal["decode", "header"] = field(
        default="decode", metadata={"help": "decode: a JPEG is kept only if it decodes without a warning; header: its header is trusted"}
    )
    resample: Literal["bilinear", "area"] = field(
        default="bilinear", metadata={"help": "filter for shrinking: bilinear (antialiased) or area (as FFCV; needs OpenCV)"}
    )

    def __post_init__(self) -> None:
        if self.write_mode == "smart" and self.smart_threshold is None:
            raise ConfigError("write_mode=smart needs smart_threshold, in bytes of pixels.")


@dataclass(frozen=True)
class WriteConfig:
    """How the conversion runs."""

    workers: int = field(default=-1, metadata={"help": "processes that encode; -1: as many as there are cores, 0: none beside this one"})
    page_size: int = field(default=8, metadata={"help": "page size in MiB, a power of two from 2 to 1024"})
    chunksize: int = field(default=100, metadata={"help": "samples handed to a process at a time, >= 1"})
    shuffle: bool = field(default=False, metadata={"help": "write the samples in an order that depends on the seed alone"})
    seed: int = field(default=0, metadata={"help": "of shuffle and of write_mode=proportion, in [0, 2**64)"})
    on_error: Literal["raise", "skip"] = field(
        default="raise",
        metadata={"help": "a sample that fails: raise ends the conversion; skip leaves it out and lists it in OUT.skipped.csv"},
    )
    progress: bool = field(default=True, metadata={"help": "show a progress bar, where standard error is a terminal"})


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; errors pass to the caller."""
    configs = parse("ffcv-ssl write", {"data": DataConfig, "image": ImageConfig, "write": WriteConfig}, argv, DESCRIPTION)
    writer, source = prepare(**configs)
    print_config(configs)  # once all that is quickly checked is found good: an error's line is not to be lost behind a table
    write = configs["write"]
    report = writer.from_indexed_dataset(source, chunksize=write.chunksize, shuffle_indices=write.shuffle)
    sys.stdout.write(report_text(report) + source_text(source))
    return 0


def prepare(data: DataConfig, image: ImageConfig, write: WriteConfig) -> tuple["DatasetWriter", "Source"]:
    """The writer of the file, and the dataset that `data` names, both checked as far as can be without reading an image."""
    from ffcv_ssl.fields import RGBImageField
    from ffcv_ssl.sources import open_source
    from ffcv_ssl.system.atomic import resolve_target
    from ffcv_ssl.writer import DatasetWriter

    if write.chunksize < 1:
        raise ConfigError(f"--write.chunksize: at least 1, got {write.chunksize}.")
    resolve_target(data.out)
    image_field = RGBImageField(**asdict(image))
    source = open_source(SourceConfig(**{part.name: getattr(data, part.name) for part in fields(SourceConfig)}))
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


def report_text(report: "WriteReport") -> str:
    """What became of the samples, for people."""
    rate = report.num_samples / max(report.seconds, 1e-9)
    size_mib = report.size_bytes / 2**20
    lines = [
        f"{printable(report.path)}: {report.num_samples:,} samples, {size_mib:,.1f} MiB, {report.seconds:.1f} s, {rate:,.0f} samples/s"
    ]
    lines += [f"  {count:,} {NOTES.get(note, note)}" for note, count in report.counts.items() if count]
    if report.skipped:
        lines.append(f"  {report.skipped:,} skipped, listed in {printable(report.skipped_path or '')}")
    return "\n".join(lines) + "\n"


def source_text(source: "Source") -> str:
    """The classes of a dataset, and what was passed over, for people."""
    from ffcv_ssl.sources.listing import named

    lines = list(source.notes)
    if source.class_names is not None:
        count = len(source.class_names)
        lines.insert(0, f"{count:,} class{'' if count == 1 else 'es'}: {named(source.class_names, MOST_NAMES)}")
    return "".join(f"  {line}\n" for line in lines)
