"""The native shim, where `setup.py` could build it: strict decode of a box of a JPEG, by address and without the GIL.

    status = decode(handle, data, size, out, height, width, top, left, box_height, box_width, denominator)

All arguments and the result are int64; `_native.c` says what they mean. `FFCV_SSL_NATIVE=0` switches the shim off, and so does asking
for another decoder (`FFCV_SSL_DECODER`).
"""

import os

try:
    from ffcv_ssl.codecs import _native  # type: ignore[attr-defined]
except ImportError as error:
    _native, _absence = None, str(error)
if os.environ.get("FFCV_SSL_NATIVE") == "0" or os.environ.get("FFCV_SSL_DECODER", "native") != "native":
    _native, _absence = None, "the environment switches it off"


def decode_address() -> int:
    """Return the address of the C function above, or 0 where there is no shim."""
    return _native.DECODE_ADDRESS if _native else 0


def library() -> str:
    """Name the library that the shim was built with."""
    return _shim().LIBRARY


class Handle:
    """What one thread needs to decode; it frees itself.

    Raises
    ------
    ImportError
        If there is no shim, or its library is of another version than the header it was built with.
    """

    def __init__(self) -> None:
        self._capsule = _shim().new_handle()
        self.address: int = _native.address(self._capsule)

    def message(self) -> str:
        """Say why the last decode that failed did so."""
        return _native.message(self._capsule)


def _shim():
    if _native is None:
        raise ImportError(f"the native decoder is not there ({_absence}); build it: FFCV_SSL_NATIVE=1 pip install --editable .")
    return _native
