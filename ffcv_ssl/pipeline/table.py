"""The parameter table: every random number of a batch, drawn before any pixel is touched."""

import numpy as np


class ParameterTable:
    """Parameters of all views of one stored field in one batch.

    Attributes
    ----------
    columns
        Names, `transform.parameter`; a second transform of one kind in a view is `transform#2.parameter`.
    values
        (N, V, P) float32; NaN where a view does not have the transform.
    """

    def __init__(self, columns: tuple[str, ...], values: np.ndarray):
        self.columns = columns
        self.values = values

    def __getitem__(self, column: str) -> np.ndarray:
        """Return one column, (N, V) float32."""
        if column not in self.columns:
            raise KeyError(f"no column {column!r}; columns: {', '.join(self.columns)}")
        return self.values[:, :, self.columns.index(column)]

    def __contains__(self, column: str) -> bool:
        return column in self.columns

    def __repr__(self) -> str:
        samples, views, _ = self.values.shape
        return (
            f"ParameterTable({samples} samples, {views} views, columns {', '.join(self.columns)})"
        )

    def select(self, transform: str, views: slice) -> "TransformColumns":
        """Return the columns of one transform, for some views, by their short names."""
        return TransformColumns(self, transform, views)


class TransformColumns:
    """A transform's window on the table: parameter name to (N, V) values of its views."""

    def __init__(self, table: ParameterTable, transform: str, views: slice):
        self._table, self._transform, self._views = table, transform, views

    def __getitem__(self, parameter: str) -> np.ndarray:
        return self._table[f"{self._transform}.{parameter}"][:, self._views]

    def __setitem__(self, parameter: str, values: np.ndarray) -> None:
        self._table[f"{self._transform}.{parameter}"][:, self._views] = values
