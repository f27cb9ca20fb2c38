"""Decode a hostile JPEG with every decoder, and compare whole images, regions and decoders."""

from __future__ import annotations

import ctypes
import mmap
import random
from collections.abc import Callable
from contextlib import suppress

import numpy as np

from ffcv_ssl.codecs import native
from ffcv_ssl.codecs.decode import Box, decode_box, decode_jpeg
from ffcv_ssl.codecs.jpeg import inspect_jpeg
from ffcv_ssl.codecs.limits import check_pixels
from ffcv_ssl.codecs.slices import cut_rows, layout
from ffcv_ssl.errors import ImageError
from tests.reference.decoders import REFERENCES, all_decoders
from tests.stress.exercise import Outcome

Decode = Callable[[np.ndarray, np.ndarray, "Box | None"], None]
CANARY = 0xA5
PAGE = mmap.PAGESIZE


class GuardedMemory:
    """Memory that ends at a protected page: an access after its end raises a signal.

    The unused bytes before the requested ones hold a pattern, which `is_intact` compares.

    Parameters
    ----------
    most_bytes
        Largest size that `take` may request.
    """

    def __init__(self, most_bytes: int):
        self._size = -(-most_bytes // PAGE) * PAGE
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS  # private to each process
        self._map = mmap.mmap(-1, self._size + PAGE, flags)
        self._bytes = np.frombuffer(self._map, np.uint8)
        address = self._bytes.ctypes.data + self._size
        if ctypes.CDLL(None, use_errno=True).mprotect(ctypes.c_void_p(address), PAGE, 0):
            raise OSError(ctypes.get_errno(), "mprotect")

    def take(self, size: int) -> np.ndarray:
        """Return the last `size` bytes, filled with CANARY like those before them."""
        start = self._size - size
        self._bytes[max(start - PAGE, 0) : self._size] = CANARY
        return self._bytes[start : self._size]

    def is_intact(self, size: int) -> bool:
        """Return whether the bytes before the last `size` are unchanged since `take`."""
        start = self._size - size
        return bool((self._bytes[max(start - PAGE, 0) : start] == CANARY).all())


class Decoders:
    """All decoders that are available on this machine, including the references.

    Parameters
    ----------
    most_pixels
        Of larger images only the header is read.
    only
        Names of the decoders to use; None: all.
    """

    def __init__(self, most_pixels: int, only: tuple[str, ...] | None = None):
        self._most_pixels = most_pixels
        decoders = all_decoders()
        self._decoders = {name: decoders[name] for name in decoders if only is None or name in only}
        self._file, self._pixels = GuardedMemory(4 << 20), GuardedMemory(3 * most_pixels)

    def compare(self, data: bytes, rng: random.Random) -> Outcome:
        """Decode a JPEG and some of its regions with each decoder."""
        outcome = Outcome()
        with outcome.only("inspect", ImageError):
            info = inspect_jpeg(data)
            check_pixels(info.width, info.height)
            if info.width * info.height > self._most_pixels:
                raise ImageError("larger than the images that are compared")
            shape, is_ours = (info.height, info.width, 3), info.needed_change() is None
            boxes = [random_box(rng, *shape[:2]) for _ in range(2)]
            # The references decode the whole image for each region, so they get fewer regions.
            few_boxes = boxes[: rng.randrange(8) == 0]
            file = self._file.take(len(data))
            file[:] = np.frombuffer(data, np.uint8)
            wholes = {}
            for name, decode in {**self._decoders, "public": _public}.items():
                regions = few_boxes if name in REFERENCES else boxes
                wholes[name] = self._whole_and_regions(name, decode, file, shape, regions, outcome)
            if is_ours and info.coding != "progressive":
                _compare_wholes(wholes, outcome)
            if "native" in self._decoders:
                self._scaled(file, shape, rng.choice((2, 4, 8)), rng, outcome)
            outcome.values = {(0, name): int(whole is not None) for name, whole in wholes.items()}
        return outcome

    def _whole_and_regions(
        self,
        name: str,
        decode: Decode,
        file: np.ndarray,
        shape: tuple[int, int, int],
        boxes: list[Box],
        outcome: Outcome,
    ) -> np.ndarray | None:
        """Decode the whole image and regions with one decoder; return the whole image or None."""
        whole = self._decoded(name, decode, file, shape, None, outcome)
        whole = None if whole is None else whole.copy()
        for box in boxes:
            found = self._decoded(name, decode, file, shape, box, outcome)
            _compare_region(name, whole, found, box, may_be_cut(file, shape[0], box), outcome)
        return whole

    def _decoded(
        self,
        name: str,
        decode: Decode,
        file: np.ndarray,
        shape: tuple[int, int, int],
        box: Box | None,
        outcome: Outcome,
    ) -> np.ndarray | None:
        """Decode into guarded memory; return None if the decoder raises an error."""
        size = int(np.prod(shape))
        pixels = self._pixels.take(size).reshape(shape)
        done = False
        with outcome.only(f"{name} {box}", ImageError):
            decode(file, pixels, box)
            done = True
        if not self._pixels.is_intact(size):
            outcome.faults.append(("written outside the image", f"{name} {shape} {box}"))
        return pixels if done else None

    def _scaled(
        self,
        file: np.ndarray,
        shape: tuple[int, int, int],
        denominator: int,
        rng: random.Random,
        outcome: Outcome,
    ) -> None:
        """Compare the native decoder's whole image and a region at a smaller scale."""
        small = (-(-shape[0] // denominator), -(-shape[1] // denominator), 3)
        handle, function = (
            native.Handle(),
            native._FUNCTION_TYPE(native.extension_module().DECODE_ADDRESS),
        )

        def decode(data: np.ndarray, out: np.ndarray, box: Box | None) -> None:
            area = (0, 0, *small[:2]) if box is None else box
            if function(
                handle.address,
                data.ctypes.data,
                data.size,
                out.ctypes.data,
                *shape[:2],
                *area,
                denominator,
            ):
                raise ImageError(handle.message())

        self._whole_and_regions(
            f"native 1/{denominator}", decode, file, small, [random_box(rng, *small[:2])], outcome
        )


def random_box(rng: random.Random, height: int, width: int) -> Box:
    """Draw a region of an image; half of the regions are small."""
    largest = rng.choice((1, 4))
    box_height, box_width = (
        rng.randint(1, -(-height // largest)),
        rng.randint(1, -(-width // largest)),
    )
    return (
        rng.randint(0, height - box_height),
        rng.randint(0, width - box_width),
        box_height,
        box_width,
    )


def may_be_cut(file: np.ndarray, height: int, box: Box) -> bool:
    """Return whether the rows of the box can be cut out, so that other rows are not read."""
    data = np.array(file)
    return (
        layout(data)[0] != 0
        and cut_rows(data, height, box[0], box[0] + box[2], np.empty_like(data))[0] != 0
    )


def _public(data: np.ndarray, out: np.ndarray, box: Box | None) -> None:
    """Decode as the loader does: with the selected decoder, then without stray bytes."""
    if box is None:
        decode_jpeg(data, out)
    else:
        decode_box(data, out, box)


def _compare_region(
    name: str,
    whole: np.ndarray | None,
    found: np.ndarray | None,
    box: Box,
    is_cut: bool,
    outcome: Outcome,
) -> None:
    if whole is None:
        if found is None:
            return
        if is_cut:  # documented: rows that are cut away are not read
            outcome.counts["region alone, rows cut"] = (
                outcome.counts.get("region alone, rows cut", 0) + 1
            )
        else:
            outcome.faults.append(("region alone", f"{name} {box}"))
    elif found is None:
        outcome.faults.append(("whole alone", f"{name} {box}"))
    else:
        top, left, height, width = box
        region = slice(top, top + height), slice(left, left + width)
        if not np.array_equal(whole[region], found[region]):
            outcome.faults.append(("region differs", f"{name} {box}"))


def _compare_wholes(wholes: dict[str, np.ndarray | None], outcome: Outcome) -> None:
    """Report decoders that disagree in pixels, and count files that only some refuse."""
    decoded = {name: whole for name, whole in wholes.items() if whole is not None}
    first = next(iter(decoded), None)
    for name, whole in decoded.items():
        if first is not None and not np.array_equal(whole, decoded[first]):
            outcome.faults.append(("decoders differ", f"{first} and {name}"))
    refusing = [name for name in wholes if name not in decoded and name != "public"]
    if decoded and refusing:
        with suppress(ValueError):
            decoded.pop("public", None)
        if decoded:
            key = f"refused by {'+'.join(refusing)} alone"
            outcome.counts[key] = outcome.counts.get(key, 0) + 1
