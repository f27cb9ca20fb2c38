"""FFCV's side of the comparison, a separate program because FFCV hangs if one of its workers fails.

    python -m tests.interop.peer write FILE --dataset=AllFields --samples=300 --page-size=2097152
    python -m tests.interop.peer write FILE --dataset=VariedImages --samples=60 --write-mode=raw
    --max-resolution=64 python -m tests.interop.peer load FILE OUT --cache=os --order=quasi_random
    python -m tests.interop.peer stored FILE OUT --cache=process python -m tests.interop.peer
    records FILE OUT

OUT is a pickle: for every field a list with one value per sample, in the order of the file
(`records`: an array).
"""

import argparse
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
from ffcv import fields as ffcv_fields
from ffcv.fields.base import ARG_TYPE
from ffcv.fields.rgb_image import SimpleRGBImageDecoder
from ffcv.libffcv import imdecode, memcpy
from ffcv.loader import Loader, OrderOption
from ffcv.memory_managers import OSCacheManager, ProcessCacheManager
from ffcv.pipeline.allocation_query import AllocationQuery
from ffcv.pipeline.compiler import Compiler
from ffcv.reader import Reader
from ffcv.transforms import ToTensor
from ffcv.writer import DatasetWriter

from tests.interop import samples

LOAD_BATCH = 32
JSON_TYPE_ID = 5  # FFCV's reader returns a BytesField for it
CACHES = {"os": OSCacheManager, "process": ProcessCacheManager}


class TaggedBytesField(ffcv_fields.Field):
    """A custom field as a user of FFCV would write it; see `samples.TAGGED_RECORD`."""

    metadata_type = samples.TAGGED_RECORD

    @staticmethod
    def from_binary(binary):
        return TaggedBytesField()

    def to_binary(self):
        return np.zeros(1, dtype=ARG_TYPE)[0]

    def encode(self, destination, value, malloc):
        destination["tag"], content = value
        destination["ptr"], storage = malloc(content.size)
        storage[:] = content

    def get_decoder_class(self):
        return ffcv_fields.BytesField().get_decoder_class()


CUSTOM_FIELDS = {"tagged": TaggedBytesField}


class WholeImageDecoder(SimpleRGBImageDecoder):
    """Decoder for whole images of different sizes: (B, largest 3·H·W) uint8, left-aligned."""

    def declare_state_and_memory(self, previous_state):
        largest = int(self.metadata["height"].max()) * int(self.metadata["width"].max()) * 3
        state = replace(previous_state, jit_mode=True, shape=(largest,), dtype=np.dtype("u1"))
        return state, AllocationQuery((largest,), np.dtype("u1"))

    def generate_code(self):
        read, decode, copy, samples_of = (
            self.memory_read,
            Compiler.compile(imdecode),
            Compiler.compile(memcpy),
            Compiler.get_iterator(),
        )

        def whole_images(batch_indices, destination, metadata, storage_state):
            for row in samples_of(len(batch_indices)):
                record = metadata[batch_indices[row]]
                payload = read(record["data_ptr"], storage_state)
                height, width = np.uint32(record["height"]), np.uint32(record["width"])
                if record["mode"] == 0:
                    decode(
                        payload,
                        destination[row],
                        height,
                        width,
                        height,
                        width,
                        0,
                        0,
                        1,
                        1,
                        False,
                        False,
                    )
                else:
                    copy(payload, destination[row])
            return destination[: len(batch_indices)]

        whole_images.is_parallel = True
        return whole_images


def write(options: argparse.Namespace) -> None:
    """Write generated samples with FFCV's writer."""
    if options.dataset == "AllFields":
        dataset, fields = samples.AllFields(options.samples), samples.all_fields(ffcv_fields)
    elif options.dataset == "TaggedBytes":
        dataset, fields = (
            samples.TaggedBytes(options.samples),
            {"image": ffcv_fields.RGBImageField(), "tagged": TaggedBytesField()},
        )
    else:
        dataset = samples.VariedImages(options.samples)
        fields = samples.image_fields(
            ffcv_fields,
            write_mode=options.write_mode,
            max_resolution=options.max_resolution,
            smart_threshold=samples.SMART_THRESHOLD,
        )
    DatasetWriter(
        str(options.file), fields, page_size=options.page_size, num_workers=2
    ).from_indexed_dataset(dataset, chunksize=16)


def load(options: argparse.Namespace) -> dict[str, list]:
    """Read every field of a file with FFCV's loader; the field `index` identifies the samples."""
    reader = Reader(str(options.file))
    found = columns(reader)
    images = {
        name
        for name, handler in reader.handlers.items()
        if isinstance(handler, ffcv_fields.RGBImageField)
    }
    loader = Loader(
        str(options.file),
        batch_size=LOAD_BATCH,
        num_workers=2,
        os_cache=options.cache == "os",
        order=OrderOption[options.order.upper()],
        seed=1,
        drop_last=False,
        pipelines={
            name: [WholeImageDecoder(), ToTensor()] for name in images if varies(found[name])
        },
    )
    rows: list[tuple] = []
    for batch in loader:  # FFCV reuses the memory of a batch
        rows.extend(zip(*(column.numpy().copy() for column in batch), strict=True))
    names = list(reader.handlers)
    rows.sort(key=lambda row: row[names.index("index")].item())
    loaded = {name: [row[column] for row in rows] for column, name in enumerate(names)}
    for name in images:
        sizes = zip(
            found[name]["height"].astype(int), found[name]["width"].astype(int), strict=True
        )
        loaded[name] = [
            pixels.reshape(-1)[: 3 * h * w].reshape(h, w, 3)
            for pixels, (h, w) in zip(loaded[name], sizes, strict=True)
        ]
    for name, descriptor in zip(names, reader.field_descriptors, strict=True):
        if isinstance(
            reader.handlers[name], ffcv_fields.BytesField
        ):  # padded with arbitrary bytes to the longest value
            loaded[name] = [
                value[:size]
                for value, size in zip(loaded[name], found[name]["size"].astype(int), strict=True)
            ]
        if descriptor["type_id"] == JSON_TYPE_ID:
            loaded[name] = [ffcv_fields.JSONField.unpack(value) for value in loaded[name]]
    return loaded


def stored(options: argparse.Namespace) -> dict[str, list]:
    """Read the stored bytes of every value that has a pointer, through FFCV's memory managers."""
    reader = Reader(str(options.file), CUSTOM_FIELDS)
    manager = CACHES[options.cache](reader)
    read = manager.compile_reader()
    context = manager.schedule_epoch([range(reader.num_samples)])
    context.__enter__()
    context.start_batch(0)
    found = {}
    for name, column in columns(reader).items():
        if column.dtype.names:
            column = column[column.dtype.names[-1] if "data_ptr" in column.dtype.names else "ptr"]
        elif not isinstance(reader.handlers[name], ffcv_fields.NDArrayField):
            continue
        found[name] = [bytes(read(pointer, context.state)) for pointer in column]
    return found


def records(options: argparse.Namespace) -> dict[str, np.ndarray]:
    """Return the records as FFCV's reader lays them out."""
    return columns(Reader(str(options.file), CUSTOM_FIELDS))


def columns(reader: Reader) -> dict[str, np.ndarray]:
    """Return the records, one column per field."""
    return {name: reader.metadata[f"f{position}"] for position, name in enumerate(reader.handlers)}


def varies(images: np.ndarray) -> bool:
    """Return whether the images have more than one size."""
    return len(np.unique(images[["height", "width"]])) > 1


READERS = {"load": load, "stored": stored, "records": records}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("command", choices=["write", *READERS])
    parser.add_argument("file", type=Path)
    parser.add_argument("out", type=Path, nargs="?")
    parser.add_argument(
        "--dataset", choices=["AllFields", "VariedImages", "TaggedBytes"], default="AllFields"
    )
    parser.add_argument("--samples", type=int)
    parser.add_argument("--write-mode", default="raw")
    parser.add_argument("--max-resolution", type=int)
    parser.add_argument("--page-size", type=int, default=1 << 23)
    parser.add_argument("--cache", choices=list(CACHES), default="os")
    parser.add_argument("--order", choices=["sequential", "quasi_random"], default="sequential")
    options = parser.parse_args()
    if options.command == "write":
        write(options)
        return
    options.out.write_bytes(pickle.dumps(READERS[options.command](options)))


if __name__ == "__main__":
    main()
