"""What a thread keeps for itself, and the C functions that compiled code reaches by address."""

import ctypes
import threading
import zlib
from functools import cache

import numpy as np

from ffcv_ssl.codecs import native
from ffcv_ssl.codecs.decode import decoder_name
from ffcv_ssl.kernels.cpu.scratch import Scratch, make_scratch
from ffcv_ssl.loader.render.chunk import Workspace


class ThreadMemory(threading.local):
    """Memory that one thread reuses; it grows to the largest image that this thread has met.

    Parameters
    ----------
    has_handle
        Whether the thread decodes with the native decoder.
    """

    def __init__(self, has_handle: bool):
        self._bytes: dict[str, np.ndarray] = {}
        self._scratch: Scratch | None = None
        self._source_size = 0, 0  # the largest that the scratch serves
        self._handle = native.Handle() if has_handle else None

    def bytes(self, name: str, size: int) -> np.ndarray:
        """Return a buffer of at least `size` bytes, uninitialised."""
        if name not in self._bytes or len(self._bytes[name]) < size:
            self._bytes[name] = np.empty(size, np.uint8)
        return self._bytes[name]

    def scratch(
        self, source_size: tuple[int, int], view_sizes: tuple[tuple[int, int], ...]
    ) -> Scratch:
        """Return work arrays for images up to `source_size` and for all the views."""
        largest = (
            max(source_size[0], self._source_size[0]),
            max(source_size[1], self._source_size[1]),
        )
        if self._scratch is None or largest != self._source_size:
            self._source_size, self._scratch = largest, make_scratch(largest, view_sizes)
        return self._scratch

    def workspace(self, num_bytes: int, num_pixels: int) -> Workspace:
        """Return memory to decode files up to `num_bytes` and images up to `num_pixels`."""
        handle = self._handle.address if self._handle else 0
        return Workspace(
            handle,
            self.bytes("file", num_bytes),
            self.bytes("part", num_bytes),
            self.bytes("pixels", 3 * num_pixels),
        )


def native_decoder() -> int:
    """Return the address of the native decoder's `decode`, or 0 where another decoder is selected."""
    return native.decode_address() if decoder_name() == "native" else 0


def pread_address() -> int:
    """Return the address of libc's `pread`, or 0 where there is none."""
    try:
        function = ctypes.CDLL(None).pread
    except (AttributeError, OSError, TypeError):
        return 0
    return ctypes.cast(function, ctypes.c_void_p).value or 0


@cache
def crc32_address() -> int:
    """Return the address of zlib's `crc32`, or 0 where it is not to be had.

    Python's own zlib module brings the library, or the interpreter has it inside. Compiled code then
    takes 13 us for 54 kB; a table-driven kernel in Numba took 33.
    """
    for library in (getattr(zlib, "__file__", None), None, "libz.so.1"):
        try:
            function = ctypes.CDLL(library).crc32
        except (AttributeError, OSError, TypeError):
            continue
        function.argtypes, function.restype = (
            (ctypes.c_ulong, ctypes.c_char_p, ctypes.c_uint),
            ctypes.c_ulong,
        )
        if function(0, b"123456789", 9) == zlib.crc32(b"123456789"):
            return ctypes.cast(function, ctypes.c_void_p).value or 0
    return 0
