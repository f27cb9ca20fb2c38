"""Memory, threads and files of a loader over a long run: flat, whatever the loop does."""

import gc
import subprocess
import sys
import weakref

import numpy as np
import pytest

from ffcv_ssl import views
from ffcv_ssl.fields import RGBImageField
from ffcv_ssl.loader import Loader
from ffcv_ssl.loader.engine.buffers import BufferPool
from ffcv_ssl.writer import DatasetWriter
from tests.reference.images import photo_like

# Resources of the process: bytes that Python allocated, resident kB, threads, open files. The first
# measurement follows some steps, after which everything has been allocated once.
METER = """
import gc, os, sys, threading, tracemalloc
from ffcv_ssl import views
from ffcv_ssl.loader import Loader, OrderOption

path, pipelines = sys.argv[1], {"image": views.simclr(16)}
options = {"batch_size": 4, "seed": 0, "num_workers": 2, "drop_last": False}
options |= {"order": OrderOption.QUASI_RANDOM, "pipelines": pipelines}

def held():
    gc.collect()
    resident = int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGESIZE") // 1024
    traced, files = tracemalloc.get_traced_memory()[0], len(os.listdir("/proc/self/fd"))
    return traced, resident, threading.active_count(), files

def compare(step, warm, count):
    for index in range(warm + count):
        if index == warm:
            tracemalloc.start()
        if index == warm + count // 4:
            before = held()
        step(index)
    print(*(after - first for first, after in zip(before, held())))
"""
EPOCHS = """
loader = Loader(path, **options)
compare(lambda index: [None for batch in loader], 40, 160)
"""
BREAKS = """
loader = Loader(path, **options)
def step(index):
    for batch in loader:
        break
compare(step, 20, 80)
"""
ERRORS = """
loader = Loader(path, **options)
def step(index):
    try:
        for batch in loader:
            raise ZeroDivisionError
    except ZeroDivisionError:
        pass
compare(step, 20, 80)
"""
ABANDONED = """
def step(index):
    loader = Loader(path, **options)
    for batch in loader:
        break
    if index % 2:
        loader.close()
compare(step, 20, 80)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    "loop", [EPOCHS, BREAKS, ERRORS, ABANDONED], ids=["epochs", "breaks", "errors", "abandoned"]
)
def test_long_run__holds_no_more_at_its_end(jpeg_file, loop):
    """Many epochs, interrupted loops and abandoned loaders accumulate nothing.

    The pool's free buffers come and go, 6 kB each; one leaked per step would be 360 kB or more.
    """
    run = subprocess.run(
        [sys.executable, "-c", METER + loop, jpeg_file], capture_output=True, text=True, timeout=100
    )
    assert run.returncode == 0, run.stderr
    traced, resident_kb, threads, files = map(int, run.stdout.split())
    assert (threads, files) == (0, 0)
    assert traced < 200_000
    assert resident_kb < 2_000


@pytest.mark.parametrize("batches_ahead", [1, 2, 4])
@pytest.mark.parametrize("num_workers", [0, 2])
def test_batches__alive_at_once_are_those_ahead_and_two(
    raw_file, monkeypatch, batches_ahead, num_workers
):
    """At most `batches_ahead` + 2 batches are alive: those ahead, the returned one and the next."""
    with Loader(
        raw_file,
        4,
        seed=0,
        num_workers=num_workers,
        batches_ahead=batches_ahead,
        pipelines={"image": views.simclr(16)},
    ) as loader:
        allocate, alive, addresses, most = loader._context.pool.allocate, set(), set(), 0

        def counted(shape, dtype):
            nonlocal most
            array, token = allocate(shape, dtype), object()
            alive.add(token)
            addresses.add(array.ctypes.data)
            weakref.finalize(array, alive.discard, token)
            most = max(most, len(alive))
            return array

        monkeypatch.setattr(loader._context.pool, "allocate", counted)
        for _ in range(3):
            for _batch in loader:
                pass
        del _batch
        assert most <= batches_ahead + 2
        assert len(addresses) <= batches_ahead + 2
        gc.collect()
        assert not alive


def test_pool__keeps_no_more_than_it_is_told():
    """Of ten buffers that are released at once, the pool keeps two and frees the others."""
    pool = BufferPool(max_free=2)
    arrays = [pool.allocate((3, 5), np.uint8) for _ in range(10)]
    addresses = {array.ctypes.data for array in arrays}
    del arrays
    assert [storage.ctypes.data in addresses for storage in pool._free[15]] == [True, True]
    again = [pool.allocate((5, 3), np.uint8) for _ in range(2)]
    assert {array.ctypes.data for array in again} <= addresses
    assert pool._free[15] == []


LARGEST = """
import sys
from ffcv_ssl import views
from ffcv_ssl.loader import Loader

def peak_kb(indices):
    open("/proc/self/clear_refs", "w").write("5")  # forget the peak so far
    options = {"seed": 0, "num_workers": 2, "pipelines": {"image": views.simclr(24)}}
    with Loader(sys.argv[1], 32, indices=indices, **options) as loader:
        assert sum(1 for batch in loader) == 2
    lines = open("/proc/self/status")
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))

peak_kb(range(64))
small = peak_kb(range(64))
print(peak_kb(range(1, 65)) - small)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_large_image__costs_its_own_size_not_that_of_a_batch_of_such(tmp_path):
    """One image of 4000 x 3000 among small ones costs a few times its 36 MB."""
    images = [photo_like(20, 24, seed) for seed in range(64)] + [
        np.tile(photo_like(300, 400, 0), (10, 10, 1))
    ]
    path = tmp_path / "large.beton"
    writer = DatasetWriter(
        path, {"image": RGBImageField(write_mode="jpg")}, num_workers=0, progress=False
    )
    writer.from_indexed_dataset([(image,) for image in images])
    run = subprocess.run(
        [sys.executable, "-c", LARGEST, str(path)], capture_output=True, text=True, timeout=100
    )
    assert run.returncode == 0, run.stderr
    assert 20_000 < int(run.stdout) < 6 * 36_000  # kB; a batch of such would be 1.1 million
