"""Calls of C functions by their address."""

import ctypes

import numpy as np

from ffcv_ssl.codecs._call import call
from ffcv_ssl.kernels._jit import cached_kernel


@cached_kernel
def find(memchr, values, wanted):
    """Return the position of a byte, found by libc."""
    address = call(memchr, values.ctypes.data, wanted, values.size)
    return address - values.ctypes.data if address else np.int64(-1)


def test_call__reaches_a_c_function_by_its_address():
    """Pointers and integers of any width are passed correctly, and so is the result."""
    memchr = ctypes.cast(ctypes.CDLL(None).memchr, ctypes.c_void_p).value
    values = np.arange(100, dtype=np.uint8)
    assert find(memchr, values, 42) == 42
    assert find(memchr, values, np.uint8(99)) == 99
    assert find(memchr, values[:42], 42) == -1
