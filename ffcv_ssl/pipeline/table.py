"""The parameter table: all random parameters of a batch, drawn before any pixel is computed."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


class ParameterTable:
    """Parameters of all views of one stored field in one batch.

    Parameters
    ----------
    columns
        Names, `transform.parameter`. The second transform of one kind in a view has columns
        `transform#2.parameter`.
    values
        (N, V, P) float32, one value per sample, view and column; NaN where a view does not have the
        transform.

    Examples
    --------
    >>> import numpy as np
    >>> from ffcv_ssl.pipeline.table import ParameterTable
    >>> table = ParameterTable(("flip.applied",), np.zeros((2, 3, 1), np.float32))
    >>> table
    ParameterTable(2 samples, 3 views, columns flip.applied)
    >>> table["flip.applied"].shape
    (2, 3)
    """

    def __init__(self, columns: tuple[str, ...], values: NDArray[np.float32]):
        self.columns = columns
        self.values = values

    def __getitem__(self, column: str) -> NDArray[np.float32]:
        """Return one column, (N, V) float32; KeyError if there is no such column."""
        if column not in self.columns:
            raise KeyError(f"no column {column!r}; columns: {', '.join(self.columns)}")
        values: NDArray[np.float32] = self.values[:, :, self.columns.index(column)]
        return values

    def __contains__(self, column: str) -> bool:
        return column in self.columns

    def __repr__(self) -> str:
        samples, views, _ = self.values.shape
        columns = ", ".join(self.columns)
        return f"ParameterTable({samples} samples, {views} views, columns {columns})"

    def select(self, transform: str, views: slice) -> "TransformColumns":
        """Return the columns of one transform for some views, under their short names."""
        return TransformColumns(self, transform, views)


class TransformColumns:
    """One transform's part of the table: maps a parameter to the (N, V) values of its views."""

    def __init__(self, table: ParameterTable, transform: str, views: slice):
        self._table, self._transform, self._views = table, transform, views

    def __getitem__(self, parameter: str) -> NDArray[np.float32]:
        return self._table[f"{self._transform}.{parameter}"][:, self._views]

    def __setitem__(self, parameter: str, values: NDArray[Any]) -> None:
        self._table[f"{self._transform}.{parameter}"][:, self._views] = values
