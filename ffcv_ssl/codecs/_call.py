"""Call a C function by its address from compiled code: `decode` of the native decoder, `pread`.

The address is an ordinary argument. Kernels that call a C function can therefore be cached on disk:
their machine code holds no symbol that the next process would have to resolve.
"""

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

_INT64 = ir.IntType(64)


@intrinsic
def call(typing_context: Any, address: Any, *arguments: Any) -> tuple[Any, Callable[..., Any]]:
    """Call a C function from compiled code.

    Nothing is checked: a wrong address or a wrong number of arguments crashes the process.

    Parameters
    ----------
    typing_context
        Supplied by Numba.
    address
        Address of the function, int64.
    *arguments
        Integers and addresses, passed as int64.

    Returns
    -------
    int
        The int64 that the function returns.
    """
    count = len(arguments)
    argument_types = types.StarArgTuple((types.int64,) * count)  # type: ignore[no-untyped-call]
    signature = types.int64(types.int64, argument_types)

    def generate(
        _context: Any, builder: ir.IRBuilder, _signature: Any, values: Sequence[Any]
    ) -> Any:
        function_type = ir.FunctionType(_INT64, [_INT64] * count)
        function = builder.inttoptr(values[0], function_type.as_pointer())
        unpacked = [builder.extract_value(values[1], index) for index in range(count)]
        return builder.call(function, unpacked)

    return signature, generate
