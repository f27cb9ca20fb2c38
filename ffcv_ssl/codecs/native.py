"""The native shim, where `setup.py` could build it: strict decode of a box of a JPEG, by address and without the GIL.

    status = decode(handle, data, size, out, height, width, top, left, box_height, box_width, denominator)

All arguments and the result are int64; `_native.c` says what they mean. `FFCV_SSL_NATIVE=0` switches the shim off, and so does asking
for another decoder (`FFCV_SSL_DECODER`).
"""

import ctypes
import os
import threading

import numpy as np

from ffcv_ssl.errors import ImageError

try:
    from ffcv_ssl.codecs import _native  # type: ignore[attr-defined]
except ImportError as error:
    _native, _absence = None, str(error)

_FUNCTION_TYPE = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * 11)
_thread = threading.local()


def decode_address() -> int:
    """Return the address of the C function above, or 0 where the shim is not there or switched off."""
    try:
        return shim().DECODE_ADDRESS
    except ImportError:
        return 0


def shim():
    """Return the extension module; `LIBRARY` in it names what it was built with.

    Raises
    ------
    ImportError
        If it was not built, or is switched off.
    """
    if (
        os.environ.get("FFCV_SSL_NATIVE") == "0"
        or os.environ.get("FFCV_SSL_DECODER", "native") != "native"
    ):
        raise ImportError(
            "the native decoder is switched off by the environment (FFCV_SSL_NATIVE, FFCV_SSL_DECODER)."
        )
    if _native is None:
        raise ImportError(
            f"the native decoder is not there ({_absence}); FFCV_SSL_NATIVE=1 pip install . builds it or says what it lacks."
        )
    return _native


class Handle:
    """What one thread needs to decode; it frees itself.

    Raises
    ------
    ImportError
        If there is no shim, or its library is of another version than the header it was built with.
    """

    def __init__(self) -> None:
        self._module = (
            _native or shim()
        )  # what the environment says was asked when the decoder was chosen
        self._capsule = self._module.new_handle()
        self.address: int = self._module.address(self._capsule)

    def message(self) -> str:
        """Say why the last decode that failed did so."""
        return self._module.message(self._capsule)


def decode(data: np.ndarray, out: np.ndarray, box: tuple[int, int, int, int]) -> None:
    """Call the C function from Python, with a handle of the calling thread.

    Parameters
    ----------
    data
        (size,) uint8, the JPEG.
    out
        (H, W, 3) uint8, C-contiguous, of the image's size.
    box
        Top, left, height and width of what is filled; other pixels may be overwritten.

    Raises
    ------
    ImageError
        If libjpeg reports an error or a warning, or the image is of another size.
    """
    if not hasattr(_thread, "handle"):
        _thread.handle = Handle()
    handle, function = _thread.handle, _FUNCTION_TYPE(_native.DECODE_ADDRESS)
    height, width = out.shape[:2]
    if function(
        handle.address, data.ctypes.data, data.size, out.ctypes.data, height, width, *box, 1
    ):
        raise ImageError(f"JPEG does not decode: {handle.message()}.")
