"""Read pickles of plain values and uint8 arrays, such as the files of CIFAR, without running code.

The three names that such arrays refer to resolve to stand-ins, which check their arguments; any
other name is rejected. NumPy's own `__setstate__` trusts a file and would read beyond an array
whose dtype is wrong.

References
----------
Opcodes: the standard library's `pickletools`.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
from typing import Any

import numpy as np

_OPCODES = """
PROTO FRAME STOP MARK POP NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 STRING
BINSTRING SHORT_BINSTRING BINBYTES SHORT_BINBYTES BINBYTES8 UNICODE BINUNICODE SHORT_BINUNICODE
EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_LIST LIST APPEND APPENDS EMPTY_DICT DICT SETITEM
SETITEMS GLOBAL STACK_GLOBAL REDUCE BUILD GET BINGET LONG_BINGET PUT BINPUT LONG_BINPUT MEMOIZE
"""
OPCODES = frozenset(_OPCODES.split())
MEMO_WRITES = ("PUT", "BINPUT", "LONG_BINPUT")
# State of the dtype uint8 as NumPy writes it.
UINT8_STATES = [(3, mark, None, None, None, -1, -1, 0) for mark in ("|", b"|")]


def load_arrays(data: bytes) -> Any:
    """Return the content of a pickle.

    No code of the pickle runs, and no more memory is allocated than its size.

    Parameters
    ----------
    data
        The pickle.

    Returns
    -------
    object
        Plain values, and uint8 arrays of any shape, read-only.

    Raises
    ------
    pickle.UnpicklingError, ValueError, TypeError, KeyError, IndexError, EOFError
        If the pickle contains anything else, or is damaged.
    """
    _check_opcodes(data)
    content = _Unpickler(io.BytesIO(data), encoding="bytes").load()
    return _without_stand_ins(content)


def _check_opcodes(data: bytes) -> None:
    """Reject opcodes that such files do not need, and memo indices that would allocate too much."""
    for count, (opcode, argument, position) in enumerate(pickletools.genops(data)):
        if opcode.name not in OPCODES:
            raise pickle.UnpicklingError(
                f"opcode {opcode.name} at byte {position}, which no such file needs"
            )
        if opcode.name in MEMO_WRITES and (not isinstance(argument, int) or argument > count):
            raise pickle.UnpicklingError(
                f"opcode {opcode.name} at byte {position} writes to memo index {argument}"
            )


class _StandIn:
    """Stands for a function or class of NumPy."""

    __slots__ = ("name",)

    def __init__(self, name: str):
        self.name = name

    def __call__(self, *arguments: Any) -> Any:
        if self.name == "dtype" and arguments[:1] in (("u1",), (b"u1",)):
            return _Uint8()
        if self.name == "_reconstruct":
            return _Array()
        raise pickle.UnpicklingError(f"it calls {self.name} with {arguments!r:.80}, wanted uint8")

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError(f"it sets a state on {self.name}")


class _Uint8:
    """Stands for `numpy.dtype("u1")`."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        if state not in UINT8_STATES:
            raise pickle.UnpicklingError(
                f"it asks for a dtype of state {state!r:.80}, wanted plain uint8"
            )


class _Array:
    """Stands for an array; has the attribute `values` once its state is set."""

    __slots__ = ("values",)

    def __setstate__(self, state: Any) -> None:
        match state:
            case (1, tuple(shape), _Uint8(), bool() | 0 | 1 as is_fortran, bytes(data)):
                pass
            case _:
                raise pickle.UnpicklingError("an array whose state is not that of uint8")
        if not all(type(side) is int and side >= 0 for side in shape) or math.prod(shape) != len(
            data
        ):
            raise pickle.UnpicklingError(
                f"an array of shape {shape!r:.80} with {len(data):,} bytes"
            )
        self.values = np.frombuffer(data, np.uint8).reshape(shape, order="F" if is_fortran else "C")


class _Unpickler(pickle.Unpickler):
    """Resolves the names that an array refers to."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in (
            ("numpy.core.multiarray", "_reconstruct"),
            ("numpy._core.multiarray", "_reconstruct"),
            ("numpy", "ndarray"),
            ("numpy", "dtype"),
        ):
            return _StandIn(name)
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no such file needs")


def _without_stand_ins(content: Any) -> Any:
    """Replace stand-ins by their arrays, which are values of the outer dict in such files."""
    if not isinstance(content, dict):
        return content
    return {
        key: value.values if isinstance(value, _Array) else value for key, value in content.items()
    }
