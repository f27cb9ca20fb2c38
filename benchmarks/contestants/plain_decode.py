"""The ceiling: each stored JPEG decoded whole, once, from memory, in as many threads, and nothing else.

No file, no views, no batch; every thread decodes into one buffer of its own that stays in its cache. A loader that decodes whole images
cannot be faster. FFCV_SSL_DECODER picks the decoder, simplejpeg or native (the shim of ffcv_ssl). Raw images need no decode.
"""

import ctypes
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import numpy as np
from protocol import Absent, Batch, need, serve
from stored import StoredImages

NATIVE_ARGUMENTS = 11


class PlainDecode:
    """Threads that decode."""

    def __init__(self):
        self.lacks: list[str] = []
        self.notes: list[str] = []

    def prepare(self, job: dict) -> None:
        self.images = StoredImages(job["path"], job["field"], job["num_images"])
        if self.images.is_raw:
            raise Absent("raw images need no decode")
        self.jpegs = [self.images.stored(index).copy() for index in range(len(self.images))]
        make = {"simplejpeg": simplejpeg_decoder, "native": native_decoder}[os.environ["FFCV_SSL_DECODER"]]
        self.workers = job["workers"]
        self.decoders = [make(self.images.records) for _ in range(self.workers)]
        self.threads = ThreadPoolExecutor(self.workers)

    def batches(self) -> Iterator[Batch]:
        """One batch of all images: the epoch has no inner border."""
        ticket = count()  # next() of it is one step under the interpreter's lock

        def work(decode: Callable[[int, np.ndarray], None]) -> None:
            while (index := next(ticket)) < len(self.jpegs):
                decode(index, self.jpegs[index])

        for done in [self.threads.submit(work, decode) for decode in self.decoders]:
            done.result()
        yield len(self.jpegs), []


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
        status = call(handle.address, jpeg.ctypes.data, jpeg.size, buffer.ctypes.data, height, width, 0, 0, height, width, 1)
        if status:
            raise RuntimeError(f"image {index}: {handle.message()}")

    return decode


def largest(records: np.ndarray) -> np.ndarray:
    """A buffer for any of the images, 1-D uint8."""
    return np.empty(int((records["height"].astype(np.int64) * records["width"]).max()) * 3, np.uint8)


if __name__ == "__main__":
    serve(PlainDecode, ("ffcv_ssl", "simplejpeg", "numpy"))
