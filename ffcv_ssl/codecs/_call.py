"""Call a C function by its address from compiled code: the native shim's `decode`, libc's `pread`.

An address travels as an ordinary argument, so that kernels which call one can be kept on disk; the machine code holds no symbol that
the next process would have to find again.
"""

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

_INT64 = ir.IntType(64)


@intrinsic
def call(typing_context, address, *arguments):
    """Call the C function at `address` with int64 arguments (pointers among them) and return its int64 result.

    Only inside compiled code. Nothing is checked: a wrong address, or another number of arguments than the function takes, is a crash.
    """
    count = len(arguments)
    signature = types.int64(types.int64, types.StarArgTuple((types.int64,) * count))

    def generate(context, builder, _signature, values):
        function_type = ir.FunctionType(_INT64, [_INT64] * count)
        function = builder.inttoptr(values[0], function_type.as_pointer())
        return builder.call(
            function, [builder.extract_value(values[1], index) for index in range(count)]
        )

    return signature, generate
