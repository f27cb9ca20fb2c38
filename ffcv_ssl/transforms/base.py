"""What transforms of views have in common."""

import math
import numbers
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np

from ffcv_ssl.errors import PipelineError
from ffcv_ssl.kernels.rows import NEUTRAL, ORDER
from ffcv_ssl.transforms.keys import Keys


class Columns(Protocol):
    """A transform's part of the parameter table: parameter name → (N, V) float32."""

    def __getitem__(self, parameter: str, /) -> np.ndarray: ...

    def __setitem__(self, parameter: str, values: np.ndarray, /) -> None: ...


@runtime_checkable
class ViewTransform(Protocol):
    """A frozen description of one augmentation: it names its columns and draws their values."""

    name: ClassVar[str]
    """Prefix of its columns in the parameter table."""
    parameters: ClassVar[tuple[str, ...]]
    """Its columns."""

    @property
    def seed(self) -> int | None:
        """Replaces the loader's seed for its columns, unless None."""

    def draw(self, keys: Keys, sizes: np.ndarray, table: Columns) -> None:
        """Fill every column, (N, V) float32, from the keys; `sizes` is (N, 2) int32, heights and widths. Touches no pixels."""


class KernelTransform:
    """Base of the transforms that the fused kernel performs. `name` is one of the kernel's `STAGES`."""

    name: ClassVar[str]
    label: ClassVar[str] = ""
    """What a preview calls it; may format the first of its `neutral` parameters."""
    columns: ClassVar[Mapping[str, int]]
    """Parameter → column of the kernel row that holds it as it is."""
    parameters: ClassVar[tuple[str, ...]]
    neutral: ClassVar[Mapping[str, float]]
    """Parameter → the value with which the view stays as it is."""

    def __init_subclass__(cls, **options: Any):
        super().__init_subclass__(**options)
        if "columns" in vars(cls):
            cls.parameters = tuple(cls.columns)
            # The order of the colour steps alone changes nothing, whatever it is.
            cls.neutral = {
                parameter: float(NEUTRAL[column])
                for parameter, column in cls.columns.items()
                if column != ORDER
            }

    def fill(self, table: Columns, rows: np.ndarray, size: tuple[int, int]) -> None:
        """Copy the parameters into kernel rows (N, V, NUM_COLUMNS) for views of `size` (height, width)."""
        for parameter, column in self.columns.items():
            rows[..., column] = table[parameter]

    def unless(self, applied: np.ndarray, parameter: str, values: np.ndarray | float) -> np.ndarray:
        """Return (N, V) float32 values where the transform is applied, else the parameter's neutral value."""
        return np.where(applied, np.float32(values), np.float32(self.neutral[parameter]))


class SampleTransform(ABC):
    """Base of your own transforms of single views, in Python.

    A subclass draws random parameters for all views of a batch, and then changes the pixels of one
    view at a time. What it draws depends on seed, epoch, sample and view alone, so the views are the
    same for any number of threads, batch size and process. It may stand anywhere behind the crop. It
    runs on the CPU, in the loader's threads.

    Attributes
    ----------
    name
        Prefix of its columns in `batch.params`.
    parameters
        Names of the numbers that it draws for each view.
    seed
        Replaces the loader's seed for these numbers, unless None.

    Examples
    --------
    >>> class Darken(SampleTransform):
    ...     name, parameters = "darken", ("factor",)
    ...
    ...     def draw(self, keys, sizes, table):
    ...         table["factor"] = 0.5 + 0.5 * keys.uniform("factor")
    ...
    ...     def apply(self, view, parameters):
    ...         view[:] = view * parameters["factor"]
    """

    name: ClassVar[str] = "custom"
    parameters: ClassVar[tuple[str, ...]] = ()
    seed: int | None = None

    def draw(self, keys: Keys, sizes: np.ndarray, table: Columns) -> None:  # noqa: B027  # some draw nothing
        """Draw the parameters of all views of a batch.

        Parameters
        ----------
        keys
            `keys.uniform("name")` gives (N, V) float32 in [0, 1): one number for each sample and view.
        sizes
            (N, 2) int32, heights and widths of the stored images.
        table
            Assign (N, V) numbers to `table["name"]` for each of `parameters`.
        """

    @abstractmethod
    def apply(self, view: np.ndarray, parameters: Mapping[str, float]) -> None:
        """Change one view in place: (height, width, 3) uint8 RGB. Draw no random numbers here."""


def check_probability(transform: str, parameter: str, value: float) -> None:
    """Raise PipelineError unless `value` is in [0, 1]."""
    if not isinstance(value, numbers.Real) or not 0 <= value <= 1:
        raise PipelineError(f"{transform}: {parameter} is a probability in [0, 1], got {value!r}.")


def check_range(
    transform: str, parameter: str, value: tuple[float, float], low: float, high: float
) -> tuple[float, float]:
    """Return a range as two floats; raise PipelineError unless low <= first <= second <= high."""
    try:
        first, second = (float(bound) for bound in value)
    except (TypeError, ValueError):
        raise PipelineError(
            f"{transform}: {parameter} is a pair (low, high), got {value!r}."
        ) from None
    if not (math.isfinite(first) and low <= first <= second <= high):
        raise PipelineError(
            f"{transform}: {parameter} must satisfy {low} <= low <= high <= {high}, got {value!r}."
        )
    return first, second


def uniform_between(uniforms: np.ndarray, bounds: tuple[float, float]) -> np.ndarray:
    """Return `uniforms` in [0, 1) stretched to [low, high], float32 (rounding may reach `high`)."""
    low, high = bounds
    return (low + (high - low) * uniforms.astype(np.float64)).astype(np.float32)
