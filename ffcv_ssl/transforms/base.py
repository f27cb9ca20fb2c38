"""Base classes of transforms and checks of their arguments."""

import math
import numbers
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ffcv_ssl.errors import PipelineError
from ffcv_ssl.kernels.rows import NEUTRAL, ORDER
from ffcv_ssl.transforms.keys import Keys


class Columns(Protocol):
    """A transform's part of the parameter table: maps a parameter to its (N, V) float32 values."""

    def __getitem__(self, parameter: str, /) -> NDArray[np.float32]: ...

    def __setitem__(self, parameter: str, values: NDArray[Any], /) -> None: ...


@runtime_checkable
class ViewTransform(Protocol):
    """Protocol of an augmentation: it names its parameters and draws their values."""

    name: ClassVar[str]
    """Prefix of its columns in the parameter table."""
    parameters: ClassVar[tuple[str, ...]]
    """Names of its parameters."""

    @property
    def seed(self) -> int | None:
        """Seed that replaces the loader's seed, or None."""

    def draw(self, keys: Keys, sizes: NDArray[np.integer[Any]], table: Columns) -> None:
        """Draw all parameters of a batch; see `SampleTransform.draw`."""


class KernelTransform:
    """Base of the transforms that the fused kernel applies.

    `name` is one of the kernel's `STAGES`.
    """

    name: ClassVar[str]
    label: ClassVar[str] = ""
    """Name in a preview; a format string for the first of its `neutral` parameters."""
    columns: ClassVar[Mapping[str, int]]
    """Maps each parameter to the kernel row column that holds it unchanged."""
    parameters: ClassVar[tuple[str, ...]]
    neutral: ClassVar[Mapping[str, float]]
    """Maps each parameter to the value that leaves the view unchanged."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "columns" in vars(cls):
            cls.parameters = tuple(cls.columns)
            # The order of the color steps alone never changes a view, so it has no neutral value.
            cls.neutral = {
                parameter: float(NEUTRAL[column])
                for parameter, column in cls.columns.items()
                if column != ORDER
            }

    def fill(self, table: Columns, rows: NDArray[np.float32], size: tuple[int, int]) -> None:
        """Copy the parameters into kernel rows.

        Parameters
        ----------
        table
            This transform's part of the parameter table.
        rows
            (N, V, NUM_COLUMNS) float32 kernel rows, modified in place.
        size
            Height and width of the views, in pixels.
        """
        for parameter, column in self.columns.items():
            rows[..., column] = table[parameter]

    def neutral_unless(
        self, applied: NDArray[np.bool_], parameter: str, values: ArrayLike
    ) -> NDArray[np.float32]:
        """Return `values` where `applied` is true, elsewhere the parameter's neutral value."""
        neutral = np.float32(self.neutral[parameter])
        return np.where(applied, np.asarray(values, np.float32), neutral)


class SampleTransform(ABC):
    """Base class for custom transforms of single views, written in Python.

    A subclass draws random parameters for all views of a batch. It then changes the pixels of one
    view at a time. The parameters depend only on seed, epoch, sample and view, so the views are the
    same for any number of threads, batch size and number of processes. The transform may follow
    the crop at any position. It runs on the CPU, in the loader's threads.

    Attributes
    ----------
    name
        Prefix of its columns in `batch.params`.
    parameters
        Names of the numbers that it draws for each view.
    seed
        Seed that replaces the loader's seed for these numbers; None (default) uses the loader's.

    Examples
    --------
    >>> import numpy as np
    >>> class Darken(SampleTransform):
    ...     name, parameters = "darken", ("factor",)
    ...
    ...     def draw(self, keys, sizes, table):
    ...         table["factor"] = 0.5 + 0.5 * keys.uniform("factor")
    ...
    ...     def apply(self, view, parameters):
    ...         view[:] = view * parameters["factor"]
    >>> view = np.full((2, 2, 3), 100, np.uint8)
    >>> Darken().apply(view, {"factor": 0.5})
    >>> int(view.max())
    50
    """

    name: ClassVar[str] = "custom"
    parameters: ClassVar[tuple[str, ...]] = ()
    seed: int | None = None

    def draw(  # noqa: B027  # a subclass without parameters draws nothing
        self, keys: Keys, sizes: NDArray[np.integer[Any]], table: Columns
    ) -> None:
        """Draw the parameters of all views of a batch.

        Parameters
        ----------
        keys
            `keys.uniform("name")` returns (N, V) float32 in [0, 1), one number per sample and view.
        sizes
            (N, 2) int32, heights and widths of the stored images in pixels.
        table
            Assign (N, V) numbers to `table["name"]` for each of `parameters`.
        """

    @abstractmethod
    def apply(self, view: NDArray[np.uint8], parameters: Mapping[str, float]) -> None:
        """Change one view in place. Do not draw random numbers here.

        Parameters
        ----------
        view
            (height, width, 3) uint8, RGB.
        parameters
            Maps each of `parameters` to the number drawn for this view.
        """


def check_probability(transform: str, parameter: str, value: float) -> None:
    """Raise `PipelineError` unless `value` is a number in [0, 1]."""
    if not isinstance(value, numbers.Real) or not 0 <= value <= 1:
        raise PipelineError(
            f"{transform}: {parameter} must be a probability in [0, 1], got {value!r}."
        )


def check_range(
    transform: str, parameter: str, value: tuple[float, float], low: float, high: float
) -> tuple[float, float]:
    """Return a range as two floats; raise `PipelineError` unless low <= first <= second <= high."""
    try:
        first, second = (float(bound) for bound in value)
    except (TypeError, ValueError):
        raise PipelineError(
            f"{transform}: {parameter} must be a pair (low, high), got {value!r}."
        ) from None
    if not (math.isfinite(first) and low <= first <= second <= high):
        raise PipelineError(
            f"{transform}: {parameter} must satisfy {low} <= low <= high <= {high}, got {value!r}."
        )
    return first, second


def uniform_between(
    uniforms: NDArray[np.float32], bounds: tuple[float, float]
) -> NDArray[np.float32]:
    """Scale float32 `uniforms` from [0, 1) to [low, high]; rounding may reach `high`."""
    low, high = bounds
    return (low + (high - low) * uniforms.astype(np.float64)).astype(np.float32)
