"""One hostile JPEG through every decoder: regions equal the whole, decoders agree, no byte too many."""

from __future__ import annotations

import ctypes
import mmap
import random
from collections.abc import Callable
from contextlib import suppress

import numpy as np

from ffcv_ssl.codecs import native
from ffcv_ssl.codecs.decode import Box, decode_box, decode_jpeg, rungs
from ffcv_ssl.codecs.jpeg import inspect_jpeg
from ffcv_ssl.codecs.limits import check_pixels
from ffcv_ssl.codecs.slices import cut_rows, layout
from ffcv_ssl.errors import ImageError
from tests.stress.exercise import Outcome

Decode = Callable[[np.ndarray, np.ndarray, "Box | None"], None]
CANARY = 0xA5
PAGE = mmap.PAGESIZE


class GuardedMemory:
    """Bytes behind which the process may touch nothing: one access there is a signal.

    Bytes before them, up to the page they share, hold a pattern that `check` compares.
    """

    def __init__(self, most_bytes: int):
        self._size = -(-most_bytes // PAGE) * PAGE
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS  # not shared with other processes
        self._map = mmap.mmap(-1, self._size + PAGE, flags)
        self._bytes = np.frombuffer(self._map, np.uint8)
        address = self._bytes.ctypes.data + self._size
        if ctypes.CDLL(None, use_errno=True).mprotect(ctypes.c_void_p(address), PAGE, 0):
            raise OSError(ctypes.get_errno(), "mprotect")

    def take(self, size: int) -> np.ndarray:
        """Return the last `size` bytes, all of them CANARY as those before them."""
        start = self._size - size
        self._bytes[max(start - PAGE, 0) : self._size] = CANARY
        return self._bytes[start : self._size]

    def is_intact(self, size: int) -> bool:
        """Whether the bytes before the last `size` are as `take` left them."""
        start = self._size - size
        return bool((self._bytes[max(start - PAGE, 0) : start] == CANARY).all())


class Decoders:
    """All decoders of this machine.

    Parameters
    ----------
    most_pixels
        Larger images are left to their headers.
    only
        Names of rungs to use; None: all.
    """

    def __init__(self, most_pixels: int, only: tuple[str, ...] | None = None):
        self._most_pixels = most_pixels
        self._rungs = {name: rung for name, rung in rungs() if only is None or name in only}
        self._file, self._pixels = GuardedMemory(4 << 20), GuardedMemory(3 * most_pixels)

    def compare(self, data: bytes, rng: random.Random) -> Outcome:
        """Decode a JPEG and some of its regions with each decoder."""
        outcome = Outcome()
        with outcome.only("inspect", ImageError):
            info = inspect_jpeg(data)
            check_pixels(info.width, info.height)
            if info.width * info.height > self._most_pixels:
                raise ImageError("larger than what is compared here")
            shape, is_ours = (info.height, info.width, 3), info.needed_change() is None
            boxes = [random_box(rng, *shape[:2]) for _ in range(2)]
            of_whole = boxes[: rng.randrange(8) == 0]  # for those that decode the whole, slowly
            file = self._file.take(len(data))
            file[:] = np.frombuffer(data, np.uint8)
            wholes = {}
            for name, decode in {**self._rungs, "public": _public}.items():
                regions = of_whole if name in ("opencv", "pillow") else boxes
                wholes[name] = self._whole_and_regions(name, decode, file, shape, regions, outcome)
            if is_ours and info.coding != "progressive":
                _compare_wholes(wholes, outcome)
            if "native" in self._rungs:
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
        """Decode whole and regions with one decoder, and compare; return the whole or None."""
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
        """Decode into guarded memory; None where the decoder refuses."""
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
        """The same for the native decoder at a fraction of the size, as `decode="fast"` does."""
        small = (-(-shape[0] // denominator), -(-shape[1] // denominator), 3)
        handle, function = native.Handle(), native._FUNCTION_TYPE(native.shim().DECODE_ADDRESS)

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
    """A region of an image, half of them small."""
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
    """Whether the rows of the box can be cut out, so that other rows are not looked at."""
    data = np.array(file)
    return (
        layout(data)[0] != 0
        and cut_rows(data, height, box[0], box[0] + box[2], np.empty_like(data))[0] != 0
    )


def _public(data: np.ndarray, out: np.ndarray, box: Box | None) -> None:
    """What the loader calls: this machine's first rung, and once more without stray bytes."""
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
        if is_cut:  # documented: rows that are cut away are not looked at
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
    """Decoders give the same pixels; that some refuse what others take is counted."""
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
