"""Types of kernel arguments, for type checkers; Numba ignores annotations."""

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Int: TypeAlias = int | np.integer[Any]
Bool: TypeAlias = bool | np.bool_
Bytes: TypeAlias = NDArray[np.uint8]
Floats: TypeAlias = NDArray[np.float32]
Integers: TypeAlias = NDArray[np.integer[Any]]
Array: TypeAlias = NDArray[Any]
