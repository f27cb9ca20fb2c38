"""Read a pickle of plain values and uint8 arrays, and of nothing else: what CIFAR's files are.

Nothing that a file asks for is called or built: the three names that its arrays need lead to stand-ins, which
check what they get. NumPy's own `__setstate__` would believe a file, and read past an array whose dtype lies.

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
PROTO FRAME STOP MARK POP NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 STRING BINSTRING SHORT_BINSTRING
BINBYTES SHORT_BINBYTES BINBYTES8 UNICODE BINUNICODE SHORT_BINUNICODE EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_LIST
LIST APPEND APPENDS EMPTY_DICT DICT SETITEM SETITEMS GLOBAL STACK_GLOBAL REDUCE BUILD GET BINGET LONG_BINGET PUT BINPUT
LONG_BINPUT MEMOIZE
"""
OPCODES = frozenset(_OPCODES.split())
MEMO_WRITES = ("PUT", "BINPUT", "LONG_BINPUT")
UINT8_STATES = [(3, mark, None, None, None, -1, -1, 0) for mark in ("|", b"|")]  # as NumPy writes it


def load_arrays(data: bytes) -> Any:
    """Return what a pickle holds, arrays as (…) uint8, read-only.

    Raises
    ------
    pickle.UnpicklingError, ValueError, TypeError, KeyError, IndexError, EOFError
        If it holds anything else, or is damaged; no code of the file runs, and no more memory is taken than the
        file is large.
    """
    _check_opcodes(data)
    content = _Unpickler(io.BytesIO(data), encoding="bytes").load()
    return _without_stand_ins(content)


def _check_opcodes(data: bytes) -> None:
    """Refuse opcodes that such files do not need, and places in the memo that would make it huge."""
    for count, (opcode, argument, position) in enumerate(pickletools.genops(data)):
        if opcode.name not in OPCODES:
            raise pickle.UnpicklingError(f"opcode {opcode.name} at byte {position}, which no such file needs")
        if opcode.name in MEMO_WRITES and (not isinstance(argument, int) or argument > count):
            raise pickle.UnpicklingError(f"opcode {opcode.name} at byte {position} writes to place {argument}")


class _StandIn:
    """What a name of NumPy leads to."""

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
            raise pickle.UnpicklingError(f"it asks for a dtype of state {state!r:.80}, wanted plain uint8")


class _Array:
    """Stands for an array; `values` once its state is known."""

    __slots__ = ("values",)

    def __setstate__(self, state: Any) -> None:
        match state:
            case (1, tuple(shape), _Uint8(), bool() | 0 | 1 as is_fortran, bytes(data)):
                pass
            case _:
                raise pickle.UnpicklingError("an array whose state is not that of uint8")
        if not all(type(side) is int and side >= 0 for side in shape) or math.prod(shape) != len(data):
            raise pickle.UnpicklingError(f"an array of shape {shape!r:.80} with {len(data):,} bytes")
        self.values = np.frombuffer(data, np.uint8).reshape(shape, order="F" if is_fortran else "C")


class _Unpickler(pickle.Unpickler):
    """Knows the three names that an array needs."""

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
    """Put arrays in the place of what stands for them; only a dict's own values are arrays in such files."""
    if not isinstance(content, dict):
        return content
    return {key: value.values if isinstance(value, _Array) else value for key, value in content.items()}
