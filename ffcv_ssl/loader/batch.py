"""What the loader hands out."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np


class Batch(tuple):
    """A named tuple of the fields of a batch: `batch.image`, `batch["image"]`, or unpacked.

    A field called `ids` or `params` is reached by `batch["ids"]` alone.

    Attributes
    ----------
    ids
        (B,) int64 sample ids, with `with_ids=True`; else None. Not part of unpacking.
    params
        Stored image field → `ParameterTable`, with `with_params=True`; else None. Not part of unpacking.
    """

    ids: np.ndarray | None
    params: Mapping[str, Any] | None
    _fields: tuple[str, ...]

    def __new__(cls, values: Mapping[str, Any], ids: np.ndarray | None = None, params: Mapping[str, Any] | None = None) -> "Batch":
        batch = super().__new__(cls, values.values())
        batch.__dict__.update(values)  # an instance's attributes come before tuple's methods, so a field may be called `index`
        batch._fields = tuple(values)
        batch.ids = ids
        batch.params = params
        return batch

    def __getitem__(self, key):
        if isinstance(key, str):
            if key not in self._fields:
                raise KeyError(f"no field {key!r} in the batch; fields: {', '.join(self._fields)}")
            return super().__getitem__(self._fields.index(key))
        return super().__getitem__(key)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"no field {name!r} in the batch; fields: {', '.join(self.__dict__.get('_fields', ()))}")

    def __reduce__(self):
        return Batch, (self._asdict(), self.ids, self.params)

    def _asdict(self) -> dict[str, Any]:
        return dict(self._items())

    def _items(self) -> Iterator[tuple[str, Any]]:
        return zip(self._fields, self, strict=True)

    def __repr__(self) -> str:
        parts = (f"{name}={tuple(value.shape) if hasattr(value, 'shape') else type(value).__name__}" for name, value in self._items())
        return f"Batch({', '.join(parts)})"
