"""Upper bound: each stored JPEG is decoded in full, once, from memory, and nothing else is done.

There are no files, views or batches. Every thread decodes into one buffer, which stays in its
cache. A loader that decodes full images cannot be faster. `FFCV_SSL_DECODER` selects the decoder:
`simplejpeg` or `native`. Raw images need no decode.
"""

import ctypes
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from threading import Event
from typing import Any

import numpy as np
from protocol import Absent, Batches, need, serve
from stored import StoredImages

NATIVE_ARGUMENTS = 11
POLL_S = 0.05  # interval at which finished images are counted


class PlainDecode:
    """Contestant with threads that only decode."""

    def __init__(self) -> None:
        self.lacks: list[str] = []
        self.notes: list[str] = []

    def prepare(self, job: dict[str, Any]) -> None:
        self.images = StoredImages(job["path"], job["field"], job["stored"])
        if self.images.is_raw:
            raise Absent("raw images need no decode")
        self.jpegs = [self.images.stored(index).copy() for index in range(len(self.images))]
        make = {"simplejpeg": simplejpeg_decoder, "native": native_decoder}[
            os.environ["FFCV_SSL_DECODER"]
        ]
        self.num_images, self.workers = job["num_images"], job["workers"]
        self.rng = np.random.default_rng(0)
        self.decoders = [make(self.images.records) for _ in range(self.workers)]
        self.threads = ThreadPoolExecutor(self.workers)

    def batches(self) -> Batches:
        """Yield an empty first batch, then periodically the number of finished images.

        The empty batch marks that there is no start. The threads decode all stored images equally
        often, in random order.
        """
        yield 0, []
        order = self.rng.permutation(self.num_images) % len(self.jpegs)
        indices = iter(order.tolist())  # next() is atomic under the GIL
        done, is_ended = [0] * self.workers, Event()

        def work(thread: int, decode: Callable[[int, np.ndarray], None]) -> None:
            for index in indices:
                if is_ended.is_set():
                    return
                decode(index, self.jpegs[index])
                done[thread] += 1

        threads = [self.threads.submit(work, *each) for each in enumerate(self.decoders)]
        running, reported = set(threads), 0
        try:
            while running:
                _, running = wait(threads, POLL_S)
                if count := sum(done) - reported:
                    reported += count
                    yield count, []
        finally:
            is_ended.set()
            for thread in threads:
                thread.result()


def simplejpeg_decoder(records: np.ndarray) -> Callable[[int, np.ndarray], None]:
    """Return a function that decodes with simplejpeg into one buffer."""
    need("simplejpeg", "; install simplejpeg")
    from simplejpeg import decode_jpeg

    buffer = largest(records)

    def decode(index: int, jpeg: np.ndarray) -> None:
        decode_jpeg(jpeg, buffer=buffer)

    return decode


def native_decoder(records: np.ndarray) -> Callable[[int, np.ndarray], None]:
    """Return a function that decodes full images with the native decoder, without the GIL."""
    try:
        from ffcv_ssl.codecs import native
    except ImportError:
        raise Absent("the native decoder was not built") from None
    if not (address := native.decode_address()):
        raise Absent("the native decoder was not built")
    call = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * NATIVE_ARGUMENTS)(address)
    handle, buffer = native.Handle(), largest(records)
    sizes = [(int(record["height"]), int(record["width"])) for record in records]

    def decode(index: int, jpeg: np.ndarray) -> None:
        height, width = sizes[index]
        status = call(
            handle.address,
            jpeg.ctypes.data,
            jpeg.size,
            buffer.ctypes.data,
            height,
            width,
            0,
            0,
            height,
            width,
            1,
        )
        if status:
            raise RuntimeError(f"image {index}: {handle.message()}")

    return decode


def largest(records: np.ndarray) -> np.ndarray:
    """Allocate a 1-D uint8 buffer that holds the largest image."""
    return np.empty(
        int((records["height"].astype(np.int64) * records["width"]).max()) * 3, np.uint8
    )


if __name__ == "__main__":
    serve(PlainDecode, ("ffcv_ssl", "simplejpeg", "numpy"))
