"""The native decoder, called by its address as compiled code does."""

import ctypes
import io
import os
import resource
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import simplejpeg
from PIL import Image

from ffcv_ssl.codecs import native
from ffcv_ssl.codecs.jpeg import SUBSAMPLINGS
from tests.reference import jpeg as make
from tests.reference.boxes import boxes, inside
from tests.reference.images import photo_like

needs_native = pytest.mark.skipif(
    not native.decode_address(), reason="the native decoder is not built, or switched off"
)
PIXELS = photo_like(83, 117)
GUARD = 4096  # bytes on both sides of an image that must not change
SIZES = [(1, 1), (1, 40), (40, 1), (3, 3), (8, 8), (16, 17), (33, 9), (5, 70), (83, 117)]


def decode(handle, data, size, box=None, denominator=1, sentinel=77):
    """Return status and pixels of the scaled image, with `box` filled.

    Fail if a byte outside the image was overwritten.
    """
    height, width = (-(-side // denominator) for side in size)
    memory = np.full(3 * height * width + 2 * GUARD, sentinel, np.uint8)
    encoded = np.frombuffer(data, np.uint8)
    function = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * 11)(native.decode_address())
    target = memory.ctypes.data + GUARD
    status = function(
        handle.address,
        encoded.ctypes.data,
        encoded.size,
        target,
        *size,
        *(box or (0, 0, height, width)),
        denominator,
    )
    assert (memory[:GUARD] == sentinel).all()
    assert (memory[-GUARD:] == sentinel).all()
    return status, memory[GUARD:-GUARD].reshape(height, width, 3)


def files(height, width):
    """Yield JPEGs of one size: all subsamplings and codings, with and without restart markers."""
    pixels = photo_like(height, width, seed=height + width)
    noisy = np.clip(pixels + np.random.default_rng(0).normal(0, 30, pixels.shape), 0, 255).astype(
        np.uint8
    )
    for name in ("4:4:4", "4:2:2", "4:2:0"):
        yield make.encode(noisy, subsampling=name)
        yield make.encode(noisy, subsampling=name, progressive=True, restart_marker_blocks=3)
        yield make.encode(noisy, subsampling=name, restart_marker_rows=1)
    yield make.subsampled(noisy, "4:4:0")
    yield make.subsampled(noisy, "4:1:1")
    yield make.encode(noisy, "L", restart_marker_rows=2)
    yield make.encode(noisy, "L", progressive=True)
    for seed, (luma, chroma) in enumerate(SUBSAMPLINGS):
        yield make.random_of_factors(
            luma, chroma, height, width, interleaved=bool(seed % 2), seed=seed
        )


@needs_native
@pytest.mark.parametrize("size", SIZES)
def test_decode__of_a_box_equals_the_full_decode(size):
    """Every box has the pixels of the full decode, for every file and denominator."""
    handle = native.Handle()
    for data in files(*size):
        for denominator in (1, 2, 4, 8):
            status, full = decode(handle, data, size, denominator=denominator)
            assert status == 0, handle.message()
            for box in boxes(*full.shape[:2], count=8, seed=denominator):
                status, part = decode(handle, data, size, box, denominator)
                assert status == 0, handle.message()
                np.testing.assert_array_equal(
                    inside(part, box), inside(full, box), err_msg=f"{box} at 1/{denominator}"
                )


@needs_native
@pytest.mark.parametrize("size", [(83, 117), (33, 90)])
@pytest.mark.parametrize("denominator", [1, 2, 4, 8])
def test_decode__equals_another_build_of_the_library(size, denominator):
    """The pixels equal those of simplejpeg at every denominator.

    simplejpeg chooses the smallest scale that yields the requested size.
    """
    handle = native.Handle()
    smallest = {"min_height": -(-size[0] // denominator), "min_width": -(-size[1] // denominator)}
    for data in files(*size):
        expected = simplejpeg.decode_jpeg(data, **smallest)
        status, pixels = decode(handle, data, size, denominator=denominator)
        assert status == 0, handle.message()
        np.testing.assert_array_equal(pixels, expected)


@needs_native
def test_decode__of_an_unfinished_progressive_file():
    """A box of a complete file without its last scans has the smoothed pixels of the whole.

    It is compared with the native full decode, because libjpeg-turbo 3.0.1 changed the smoothing.
    """
    jpeg = make.encode(PIXELS, progressive=True)
    scans = [i for i in range(len(jpeg) - 1) if jpeg[i : i + 2] == b"\xff\xda"]
    handle = native.Handle()
    for end in scans[1:]:
        data = jpeg[:end] + b"\xff\xd9"
        _, expected = decode(handle, data, (83, 117))
        for box in boxes(83, 117, count=20):
            status, part = decode(handle, data, (83, 117), box)
            assert status == 0, handle.message()
            np.testing.assert_array_equal(inside(part, box), inside(expected, box))


@needs_native
@pytest.mark.parametrize(
    "box",
    [
        (-1, 0, 2, 2),
        (0, -1, 2, 2),
        (0, 0, 0, 5),
        (0, 0, 5, 0),
        (80, 0, 4, 4),
        (0, 115, 4, 4),
        (2**62, 0, 2**62, 1),
    ],
)
def test_decode__refuses_a_box_outside_the_image(box):
    """A box that is empty or extends beyond the image fails, and nothing is written."""
    handle = native.Handle()
    status, pixels = decode(handle, make.encode(PIXELS), (83, 117), box)
    assert (status, handle.message()) == (1, "the box reaches out of the image")
    assert (pixels == 77).all()


@needs_native
@pytest.mark.parametrize("denominator", [3, 5, 16])
def test_decode__refuses_other_scales(denominator):
    """Scales that libjpeg would round to another size fail, and nothing is written."""
    handle = native.Handle()
    status, pixels = decode(handle, make.encode(PIXELS), (83, 117), denominator=denominator)
    assert (status, handle.message()) == (1, "the denominator is 1, 2, 4 or 8")
    assert (pixels == 77).all()


@needs_native
@pytest.mark.parametrize("size", [(117, 83), (83, 116), (84, 117), (1, 1)])
def test_decode__refuses_an_image_of_another_size(size):
    """An image whose size contradicts its record fails before anything is written."""
    handle = native.Handle()
    status, pixels = decode(handle, make.encode(PIXELS), size)
    assert status == 1
    assert handle.message() == f"JPEG of (height, width) (83, 117), wanted {size}"
    assert (pixels == 77).all()


@needs_native
def test_decode__refuses_headers_of_many_pixels_at_once():
    """A header of 4 gigapixels fails without allocating memory."""
    handle = native.Handle()
    data = make.with_frame(make.encode(PIXELS, progressive=True), height=65_500, width=65_500)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert decode(handle, data, (83, 117))[0] == 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 10_000  # kB


@needs_native
def test_decode__limits_the_number_of_scans():
    """At most 500 scans are read, because a small file could occupy a thread for minutes."""
    data = make.random_of_factors((1, 1), (1, 1), 83, 117, interleaved=False)
    scan, end = data.index(b"\xff\xda"), data.index(b"\xff\xd9")
    second = data.index(b"\xff\xda", scan + 2)
    handle = native.Handle()
    assert (
        decode(handle, data[:scan] + (data[scan:second]) * 498 + data[second:], (83, 117))[0] == 0
    )
    status, _ = decode(
        handle, data[:scan] + data[scan:second] * 499 + data[second:end] + b"\xff\xd9", (83, 117)
    )
    assert (status, handle.message()) == (1, "more than 500 scans")


def corrupted(count):
    """Yield files with one random byte changed."""
    kinds = [
        make.encode(PIXELS, **options)
        for options in ({"restart_marker_rows": 1}, {}, {"progressive": True})
    ]
    rng = np.random.default_rng(1)
    for index in range(count):
        changed = bytearray(kinds[index % len(kinds)])
        position = int(rng.integers(2, len(changed)))
        changed[position] ^= int(rng.integers(1, 256))
        yield bytes(changed)


@needs_native
def test_decode__of_corrupt_files_never_shows_other_pixels():
    """With any byte changed, a box decodes if and only if the whole image does.

    It then has the same pixels, whatever the memory held before.
    """
    handle = native.Handle()
    outcomes = set()
    for data in corrupted(1500):
        full_status, full = decode(handle, data, (83, 117))
        for box in ((40, 30, 20, 50), (0, 0, 16, 117), (70, 100, 13, 17)):
            status, part = decode(handle, data, (83, 117), box, sentinel=178)
            assert status == full_status
            if status == 0:
                np.testing.assert_array_equal(inside(part, box), inside(full, box))
            outcomes.add(status)
    assert outcomes == {0, 1}


@needs_native
def test_handle__is_usable_after_failures():
    """After any failure the same handle decodes the next file; failures leak no memory."""
    handle = native.Handle()
    good = make.encode(PIXELS, progressive=True)
    expected = simplejpeg.decode_jpeg(good)
    bad = [
        *make.damaged(good).values(),
        *make.damaged(make.encode(PIXELS)).values(),
        b"",
        b"\xff\xd8",
        bytes(500),
    ]
    for repeat in range(40):
        for data in bad:
            assert decode(handle, data, (83, 117))[0] == 1
            assert handle.message()
        status, pixels = decode(handle, good, (83, 117))
        assert status == 0
        np.testing.assert_array_equal(pixels, expected)
        if repeat == 5:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 4_000  # kB


@needs_native
def test_handle__one_per_thread():
    """Threads with separate handles do not disturb each other, whether they succeed or fail."""
    kinds = list(files(83, 117))
    expected = [simplejpeg.decode_jpeg(data) for data in kinds]

    def work(offset):
        handle = native.Handle()
        for i in range(3 * len(kinds)):
            k = (i + offset) % len(kinds)
            assert decode(handle, kinds[k][: len(kinds[k]) // 2], (83, 117))[0] == 1
            status, pixels = decode(handle, kinds[k], (83, 117))
            assert status == 0
            np.testing.assert_array_equal(pixels, expected[k])

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(6)))


@needs_native
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_handle__survives_a_fork():
    """A handle made and used before a fork decodes in the parent and in the child."""
    program = """
import os, numpy as np
from ffcv_ssl.codecs.decode import decode_jpeg, decoder_name
from tests.reference import jpeg as make
data = make.encode(np.arange(83 * 117 * 3).reshape(83, 117, 3).astype(np.uint8))
before = decode_jpeg(data)
child = os.fork()
same = (decode_jpeg(data) == before).all() and decoder_name() == "native"
if not child:
    os._exit(0 if same else 1)
assert same and os.waitpid(child, 0)[1] == 0
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


@pytest.mark.parametrize("switch", [{"FFCV_SSL_NATIVE": "0"}, {"FFCV_SSL_DECODER": "simplejpeg"}])
def test_native__can_be_switched_off(monkeypatch, switch):
    """The environment switches the native decoder off, built or not; the error names it."""
    for name, value in switch.items():
        monkeypatch.setenv(name, value)
    assert native.decode_address() == 0
    with pytest.raises(ImportError, match=r"switched off by the environment"):
        native.extension_module()


def test_native__reports_why_it_is_missing(monkeypatch):
    """If the extension module was not built, the error explains how to build it."""
    monkeypatch.delenv("FFCV_SSL_NATIVE", raising=False)
    monkeypatch.setattr(native, "_native", None)
    monkeypatch.setattr(native, "_import_error", "no such module", raising=False)
    assert native.decode_address() == 0
    with pytest.raises(
        ImportError, match=r"not installed \(no such module\); FFCV_SSL_NATIVE=1 pip install"
    ):
        native.Handle()


@needs_native
def test_native__names_its_library():
    """The module names the version of libjpeg-turbo that it was built with."""
    assert native.extension_module().LIBRARY.startswith("libjpeg-turbo ")


@needs_native
@pytest.mark.parametrize("removed", [b"\xff\xdb", b"\xff\xc4"])
def test_tables__of_another_image_are_not_used(removed):
    """A JPEG without tables has the same result with a used handle and with a new one."""
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).save(buffer, "JPEG", quality=30, optimize=True)
    whole = without = buffer.getvalue()
    while (start := without.find(removed)) >= 0:
        without = (
            without[:start]
            + without[start + 2 + int.from_bytes(without[start + 2 : start + 4], "big") :]
        )
    results = []
    for before in ((), (whole,)):
        handle = native.Handle()
        for data in before:
            assert decode(handle, data, PIXELS.shape[:2])[0] == 0
        status, pixels = decode(handle, without, PIXELS.shape[:2])
        results.append((status, handle.message() if status else pixels.tobytes()))
    assert results[0] == results[1]
