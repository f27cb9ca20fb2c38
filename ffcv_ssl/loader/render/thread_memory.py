"""Memory that a thread reuses, and addresses of the C functions that compiled code calls."""

import ctypes
import threading
import zlib
from functools import cache

import numpy as np
from numpy.typing import NDArray

from ffcv_ssl.codecs import native
from ffcv_ssl.codecs.decode import decoder_name
from ffcv_ssl.kernels.cpu.scratch import Scratch, make_scratch
from ffcv_ssl.loader.render.chunk import Workspace


class ThreadMemory(threading.local):
    """Memory that one thread reuses; it grows with the largest image that the thread decodes.

    Parameters
    ----------
    has_handle
        Whether the thread uses the native decoder.
    """

    def __init__(self, has_handle: bool):
        self._buffers: dict[str, NDArray[np.uint8]] = {}
        self._scratch: Scratch | None = None
        self._source_size = 0, 0  # largest height and width for which the scratch suffices
        self._handle = native.Handle() if has_handle else None

    def buffer(self, name: str, size: int) -> NDArray[np.uint8]:
        """Return a buffer.

        Parameters
        ----------
        name
            Name of the buffer; calls with the same name return the same memory.
        size
            Minimum size in bytes.

        Returns
        -------
        numpy.ndarray
            (at least `size`,) uint8, uninitialized.
        """
        if name not in self._buffers or len(self._buffers[name]) < size:
            self._buffers[name] = np.empty(size, np.uint8)
        return self._buffers[name]

    def scratch(
        self, source_size: tuple[int, int], view_sizes: tuple[tuple[int, int], ...]
    ) -> Scratch:
        """Return the work arrays of the kernels.

        Parameters
        ----------
        source_size
            Largest height and width of the images.
        view_sizes
            Height and width of each kind of view; the same in every call.

        Returns
        -------
        Scratch
            Work arrays.
        """
        height = max(source_size[0], self._source_size[0])
        width = max(source_size[1], self._source_size[1])
        if self._scratch is None or (height, width) != self._source_size:
            self._source_size = height, width
            self._scratch = make_scratch((height, width), view_sizes)
        return self._scratch

    def workspace(self, num_bytes: int, num_pixels: int) -> Workspace:
        """Return the memory to decode images in compiled code.

        Parameters
        ----------
        num_bytes
            Largest size of a stored image, in bytes.
        num_pixels
            Largest size of a decoded image, in pixels.

        Returns
        -------
        Workspace
            Memory of this thread.
        """
        return Workspace(
            handle=self._handle.address if self._handle else 0,
            data=self.buffer("file", num_bytes),
            part=self.buffer("part", num_bytes),
            pixels=self.buffer("pixels", 3 * num_pixels),
        )


def native_decoder() -> int:
    """Return the address of the native decoder's `decode`, or 0 if another decoder is selected."""
    return native.decode_address() if decoder_name() == "native" else 0


def pread_address() -> int:
    """Return the address of libc's `pread`, or 0 if it is not available."""
    try:
        function = ctypes.CDLL(None).pread
    except (AttributeError, OSError, TypeError):
        return 0
    return ctypes.cast(function, ctypes.c_void_p).value or 0


@cache
def crc32_address() -> int:
    """Return the address of zlib's `crc32`, or 0 if it is not available.

    Python's `zlib` module links to the library, or the interpreter contains it. `crc32` takes 13 us
    for 54 kB; a table-driven Numba kernel takes 33 us.
    """
    for library in (getattr(zlib, "__file__", None), None, "libz.so.1"):
        try:
            function = ctypes.CDLL(library).crc32
        except (AttributeError, OSError, TypeError):
            continue
        function.argtypes = ctypes.c_ulong, ctypes.c_char_p, ctypes.c_uint
        function.restype = ctypes.c_ulong
        if function(0, b"123456789", 9) == zlib.crc32(b"123456789"):
            return ctypes.cast(function, ctypes.c_void_p).value or 0
    return 0
