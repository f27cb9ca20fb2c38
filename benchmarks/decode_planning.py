"""Benefit of each technique of partial decoding, for each decoder.

    python benchmarks/decode_planning.py --data=FOLDER_OF_JPEGS [--repeats=9] [--out=FILE.json]

The JPEGs are resized to a longest side of 500 and encoded with quality 90, as the writer does. The
decoded box is that of one view of `RandomResizedCrop(scale=(0.08, 1))`, or the bounding box of two.
Times are CPU time of the calling thread: the median over the repeats for each image, with
alternating variants, then the mean over the images. Each variant is first checked against the full
decode.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ffcv_ssl.benchmarks import machine
from ffcv_ssl.codecs import native
from ffcv_ssl.codecs.decode import Box, available_decoders, decode_jpeg
from ffcv_ssl.codecs.encode import encode_jpeg, resize
from ffcv_ssl.codecs.image import load_rgb
from ffcv_ssl.codecs.slices import cut_rows, decode_box
from ffcv_ssl.transforms.crop import RandomResizedCrop
from ffcv_ssl.transforms.keys import Keys

MAX_RESOLUTION, QUALITY = 500, 90


class Image:
    """One JPEG, its size, the boxes to decode, and memory for its pixels."""

    def __init__(self, data: bytes, boxes: dict[str, Box]):
        self.data, self.boxes = np.frombuffer(data, np.uint8).copy(), boxes
        self.pixels = decode_jpeg(data)
        self.size = self.pixels.shape[:2]
        self.scratch, self.out = np.empty_like(self.data), np.empty_like(self.pixels)


def variants() -> dict[str, Callable[[Image, Box], object]]:
    """Return the decoders as functions of an image and a box."""
    decoders = dict(available_decoders())
    simplejpeg = decoders["simplejpeg"]
    functions: dict[str, Callable[[Image, Box], object]] = {
        "simplejpeg, whole image": lambda image, box: simplejpeg(image.data, image.out),
        "simplejpeg, rows cut out of the file": lambda image, box: simplejpeg(
            image.data, image.out, box
        ),
    }
    if "native" not in decoders:
        return functions
    address, handle = native.decode_address(), native.Handle()

    def cut(image: Image, box: Box, denominator: int = 1) -> int:
        decoder = address, handle.address  # the closure keeps the handle alive
        return decode_box(
            decoder, image.data, image.size, box, denominator, image.scratch, image.out.reshape(-1)
        )

    return functions | {
        "native, whole image": lambda image, box: native.decode(
            image.data, image.out, (0, 0, *image.size)
        ),
        "native, rows skipped": lambda image, box: native.decode(
            image.data, image.out, _whole_rows(image, box)
        ),
        "native, columns cropped": lambda image, box: native.decode(
            image.data, image.out, (0, box[1], image.size[0], box[3])
        ),
        "native, skipped and cropped": lambda image, box: native.decode(image.data, image.out, box),
        "native, cut and skipped": lambda image, box: cut(image, _whole_rows(image, box)),
        "native, cut, skipped and cropped": cut,
        "native, all that at 1/2": lambda image, box: cut(
            image, (box[0] // 2, box[1] // 2, (box[2] + 1) // 2, (box[3] + 1) // 2), 2
        ),
        "native, the cut alone": lambda image, box: cut_rows(
            image.data, image.size[0], box[0], box[0] + box[2], image.scratch
        ),
    }


def _whole_rows(image: Image, box: Box) -> Box:
    """Extend a box to the full width of the image."""
    return box[0], 0, box[2], image.size[1]


def photos(folder: Path, seed: int = 0) -> list[Image]:
    """Encode the JPEGs of a folder as the writer does, and draw their boxes."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
    encoded = [encode_jpeg(resize(load_rgb(path), MAX_RESOLUTION), QUALITY) for path in paths]
    sizes = np.array([decode_jpeg(data).shape[:2] for data in encoded])
    keys = Keys(seed, 0, np.arange(len(paths)), range(2))
    top, left, height, width = RandomResizedCrop(224).boxes(
        keys, *(np.repeat(sizes[:, axis, None], 2, axis=1) for axis in (0, 1))
    )
    starts, ends = np.stack((top, left), axis=2), np.stack((top + height, left + width), axis=2)
    images = []
    for data, start, end in zip(encoded, starts, ends, strict=True):
        boxes = {"one view": (start[0], end[0]), "two views": (start.min(axis=0), end.max(axis=0))}
        images.append(
            Image(
                data,
                {
                    name: (*first.tolist(), *(last - first).tolist())
                    for name, (first, last) in boxes.items()
                },
            )
        )
    return images


def measure(
    images: list[Image], functions: dict[str, Callable[..., object]], which: str, repeats: int
) -> dict[str, np.ndarray]:
    """Return the CPU milliseconds of every variant, (images, repeats) float64.

    A first round compiles and checks the results.
    """
    times = {name: np.empty((len(images), repeats)) for name in functions}
    for i, image in enumerate(images):
        box = image.boxes[which]
        top, left, height, width = box
        inside = np.s_[top : top + height, left : left + width]
        for name, function in functions.items():
            image.out.fill(77)
            function(image, box)
            if not name.endswith(("1/2", "alone")):
                np.testing.assert_array_equal(image.out[inside], image.pixels[inside], err_msg=name)
        for repeat in range(repeats):
            for name, function in functions.items():
                started = time.thread_time()
                function(image, box)
                times[name][i, repeat] = 1e3 * (time.thread_time() - started)
    return times


def main() -> None:
    """Print one table; with `--out` also write its numbers."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", type=Path, required=True, help="folder of JPEGs, searched recursively"
    )
    parser.add_argument(
        "--repeats",
        type=int,
        default=9,
        help="measurements per image and variant (default: 9)",
    )
    parser.add_argument("--out", type=Path, help="JSON file for the medians")
    options = parser.parse_args()
    result: dict[str, Any] = {
        "machine": machine.describe(),
        "repeats": options.repeats,
        "milliseconds": {},
    }
    images, functions = photos(options.data), variants()
    for which in ("one view", "two views"):
        times = measure(images, functions, which, options.repeats)
        result["milliseconds"][which] = {
            name: float(np.median(values, axis=1).mean()) for name, values in times.items()
        }
    size = np.mean([image.data.size for image in images]) / 1e3
    print(machine.as_text(result["machine"]))
    print(
        f"{native.extension_module().LIBRARY if native.decode_address() else 'no native decoder'}; "
        f"{len(images)} images of {size:.1f} kB on average\n"
    )
    print(f"{'CPU ms per image':36}" + "".join(f"{which:>20}" for which in result["milliseconds"]))
    for name in functions:
        line = f"{name:36}"
        for times in result["milliseconds"].values():
            full = times[name.partition(",")[0] + ", whole image"]
            line += f"{times[name]:12.3f} ({times[name] / full:.2f})"
        print(line)
    if options.out:
        options.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
