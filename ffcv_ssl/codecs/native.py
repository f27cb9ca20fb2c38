"""The native decoder, where `setup.py` could build it: strict decode of a box of a JPEG.

Compiled code calls it by its address, without the GIL:

    status = decode(handle, data, size, out, height, width, top, left, box_height, box_width,
                    denominator)

All arguments and the result are int64; `_native.c` documents them. `FFCV_SSL_NATIVE=0` switches the
native decoder off, and so does selecting another one with `FFCV_SSL_DECODER`.
"""

import ctypes
import os
import threading
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from ffcv_ssl.errors import ImageError

_native: ModuleType | None
try:
    from ffcv_ssl.codecs import _native  # type: ignore[attr-defined,no-redef]
except ImportError as error:
    _native, _import_error = None, str(error)

_FUNCTION_TYPE = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * 11)
_thread = threading.local()


def decode_address() -> int:
    """Return the address of the C function `decode`, or 0 if it is missing or switched off."""
    try:
        return int(extension_module().DECODE_ADDRESS)
    except ImportError:
        return 0


def extension_module() -> ModuleType:
    """Return the extension module; its `LIBRARY` names the libjpeg-turbo it was built with.

    Raises
    ------
    ImportError
        If it was not built, or is switched off.
    """
    is_selected = os.environ.get("FFCV_SSL_DECODER", "native") == "native"
    if os.environ.get("FFCV_SSL_NATIVE") == "0" or not is_selected:
        raise ImportError(
            "the native decoder is switched off by the environment "
            "(FFCV_SSL_NATIVE, FFCV_SSL_DECODER)."
        )
    if _native is None:
        raise ImportError(
            f"the native decoder is not installed ({_import_error}); FFCV_SSL_NATIVE=1 "
            "pip install . builds it or reports which dependency is missing."
        )
    return _native


class Handle:
    """Decoder state of one thread, freed with the object.

    Attributes
    ----------
    module
        The extension module.
    address
        Address of the state, as the C function takes it.

    Raises
    ------
    ImportError
        If the native decoder is missing, or was built with the header of another libjpeg.
    """

    def __init__(self) -> None:
        # The environment was read when the decoder was selected.
        self.module = _native or extension_module()
        self._capsule = self.module.new_handle()
        self.address: int = self.module.address(self._capsule)

    def message(self) -> str:
        """Return the reason of the last failure."""
        return str(self.module.message(self._capsule))


def decode(data: NDArray[np.uint8], out: NDArray[np.uint8], box: tuple[int, int, int, int]) -> None:
    """Call the C function from Python, with a handle of the calling thread.

    Parameters
    ----------
    data
        (size,) uint8, the JPEG.
    out
        (H, W, 3) uint8, C-contiguous, of the image's size.
    box
        Top, left, height, width in pixels. The box is filled; other pixels may be overwritten.

    Raises
    ------
    ImageError
        If libjpeg reports an error or a warning, or if the image and `out` differ in size.
    """
    if not hasattr(_thread, "handle"):
        _thread.handle = Handle()
    handle = _thread.handle
    function = _FUNCTION_TYPE(handle.module.DECODE_ADDRESS)
    height, width = out.shape[:2]
    source, target = data.ctypes.data, out.ctypes.data
    if function(handle.address, source, data.size, target, height, width, *box, 1):
        raise ImageError(f"JPEG does not decode: {handle.message()}.")
