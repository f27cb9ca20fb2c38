"""What every transform that a kernel renders has in common."""

import math
import numbers
from typing import ClassVar, Protocol, runtime_checkable

import numpy as np

from ffcv_ssl.errors import PipelineError
from ffcv_ssl.transforms.keys import Keys


class Columns(Protocol):
    """A transform's part of the parameter table: parameter name → (N, V) float32."""

    def __getitem__(self, parameter: str, /) -> np.ndarray: ...

    def __setitem__(self, parameter: str, values: np.ndarray, /) -> None: ...


@runtime_checkable
class ViewTransform(Protocol):
    """A frozen description of one augmentation: it names its columns, draws them, and fills the kernel's rows from them."""

    name: ClassVar[str]
    """Prefix of its columns in the parameter table."""
    parameters: ClassVar[tuple[str, ...]]
    """Its columns."""
    rank: ClassVar[int]
    """Place in the order in which the fused kernel works; a pipeline in another order is rendered in several passes."""

    @property
    def seed(self) -> int | None:
        """Replaces the loader's seed for its columns, unless None."""

    def draw(self, keys: Keys, sizes: np.ndarray, table: Columns) -> None:
        """Fill every column, (N, V) float32, from the keys; `sizes` is (N, 2) int32, heights and widths. Touches no pixels."""

    def fill(self, table: Columns, rows: np.ndarray, size: tuple[int, int]) -> None:
        """Translate the columns into kernel rows (N, V, NUM_COLUMNS) for views of `size` (height, width)."""


def check_probability(transform: str, parameter: str, value: float) -> None:
    """Raise PipelineError unless `value` is in [0, 1]."""
    if not isinstance(value, numbers.Real) or not 0 <= value <= 1:
        raise PipelineError(f"{transform}: {parameter} is a probability in [0, 1], got {value!r}.")


def check_range(transform: str, parameter: str, value: tuple[float, float], low: float, high: float) -> tuple[float, float]:
    """Return a range as two floats; raise PipelineError unless low <= first <= second <= high."""
    try:
        first, second = (float(bound) for bound in value)
    except (TypeError, ValueError):
        raise PipelineError(f"{transform}: {parameter} is a pair (low, high), got {value!r}.") from None
    if not (math.isfinite(first) and low <= first <= second <= high):
        raise PipelineError(f"{transform}: {parameter} must satisfy {low} <= low <= high <= {high}, got {value!r}.")
    return first, second


def uniform_between(uniforms: np.ndarray, bounds: tuple[float, float]) -> np.ndarray:
    """Return `uniforms` in [0, 1) stretched to [low, high], float32 (rounding may reach `high`)."""
    low, high = bounds
    return (low + (high - low) * uniforms.astype(np.float64)).astype(np.float32)
