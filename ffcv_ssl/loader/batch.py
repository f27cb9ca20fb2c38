"""What the loader hands out."""

import functools
from collections import namedtuple
from collections.abc import Mapping
from typing import Any

import numpy as np


class Batch(tuple):
    """A named tuple of the fields of a batch: `batch.image`, `batch["image"]`, or unpacked.

    A field whose name is not an identifier, or is `ids` or `params`, is reached by `batch["name"]` alone.

    Attributes
    ----------
    names
        Of the fields.
    ids
        (B,) int64 sample ids, with `with_ids=True`; else None. Not part of unpacking.
    params
        Stored image field → `ParameterTable`, with `with_params=True`; else None. Not part of unpacking. Views are counted in the order
        of the pipelines: where a field is a tuple of tensors, one per size, each holds its views in that order.
    """

    names: tuple[str, ...] = ()
    ids: np.ndarray | None = None
    params: Mapping[str, Any] | None = None

    def __getitem__(self, key):
        if isinstance(key, str):
            if key not in self.names:
                raise KeyError(f"no field {key!r} in the batch; fields: {', '.join(self.names)}")
            return super().__getitem__(self.names.index(key))
        return super().__getitem__(key)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"no field {name!r} in the batch; fields: {', '.join(self.names)}")

    def __reduce__(self):
        return make_batch, (dict(zip(self.names, self, strict=True)), self.ids, self.params)

    def __repr__(self) -> str:
        described = (
            tuple(value.shape) if hasattr(value, "shape") else type(value).__name__
            for value in self
        )
        return f"Batch({', '.join(f'{name}={value}' for name, value in zip(self.names, described, strict=True))})"


@functools.lru_cache(maxsize=64)
def _batch_type(names: tuple[str, ...]) -> type[Batch]:
    """Return a true named tuple, as torch's collating and distributed code rebuilds it from its fields."""
    return type("Batch", (Batch, namedtuple("Batch", names, rename=True)), {"names": names})


def make_batch(
    values: Mapping[str, Any],
    ids: np.ndarray | None = None,
    params: Mapping[str, Any] | None = None,
) -> Batch:
    """Return the batch of fields by name."""
    batch = _batch_type(tuple(values))(*values.values())
    batch.ids, batch.params = ids, params
    return batch
