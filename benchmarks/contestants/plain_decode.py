"""The ceiling: each stored JPEG decoded whole, once, from memory, in as many threads, and nothing else.

No file, no views, no batch; every thread decodes into one buffer of its own that stays in its cache. A loader that decodes whole images
cannot be faster. FFCV_SSL_DECODER picks the decoder, simplejpeg or native (the shim of ffcv_ssl). Raw images need no decode.
"""

import ctypes
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from threading import Event

import numpy as np
from protocol import Absent, Batches, need, serve
from stored import StoredImages

NATIVE_ARGUMENTS = 11
LOOK_S = 0.05  # between two looks at what is done


class PlainDecode:
    """Threads that decode."""

    def __init__(self):
        self.lacks: list[str] = []
        self.notes: list[str] = []

    def prepare(self, job: dict) -> None:
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
        """Yield an empty first batch: there is no start. Then yield how many images are done, now and then.

        The threads know of no batches; all stored images come equally often, in random order.
        """
        yield 0, []
        order = self.rng.permutation(self.num_images) % len(self.jpegs)
        indices = iter(order.tolist())  # next() of it is one step under the interpreter's lock
        done, is_ended = [0] * self.workers, Event()

        def work(thread: int, decode: Callable[[int, np.ndarray], None]) -> None:
            for index in indices:
                if is_ended.is_set():
                    return
                decode(index, self.jpegs[index])
                done[thread] += 1

        threads = [self.threads.submit(work, *each) for each in enumerate(self.decoders)]
        running, given = set(threads), 0
        try:
            while running:
                _, running = wait(threads, LOOK_S)
                if count := sum(done) - given:
                    given += count
                    yield count, []
        finally:
            is_ended.set()
            for thread in threads:
                thread.result()


def simplejpeg_decoder(records: np.ndarray) -> Callable[[int, np.ndarray], None]:
    """Decode with simplejpeg into one buffer."""
    need("simplejpeg", ": pip install simplejpeg")
    from simplejpeg import decode_jpeg

    buffer = largest(records)

    def decode(index: int, jpeg: np.ndarray) -> None:
        decode_jpeg(jpeg, buffer=buffer)

    return decode


def native_decoder(records: np.ndarray) -> Callable[[int, np.ndarray], None]:
    """Decode whole images with the native shim, called by its address; ctypes releases the interpreter's lock."""
    try:
        from ffcv_ssl.codecs import native
    except ImportError:
        raise Absent("native shim not built") from None
    if not (address := native.decode_address()):
        raise Absent("native shim not built")
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
    """A buffer for any of the images, 1-D uint8."""
    return np.empty(
        int((records["height"].astype(np.int64) * records["width"]).max()) * 3, np.uint8
    )


if __name__ == "__main__":
    serve(PlainDecode, ("ffcv_ssl", "simplejpeg", "numpy"))
