"""The batches that the loader returns."""

import functools
from collections import namedtuple
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ffcv_ssl.pipeline.table import ParameterTable


class Batch(tuple[Any, ...]):
    """A named tuple of the fields of one batch.

    Read a field as `batch.image` or `batch["image"]`, or unpack the batch. A field whose name is
    not an identifier, or is `ids` or `params`, is available as `batch["name"]` only. The loader
    creates batches; a program rarely creates one itself.

    Parameters
    ----------
    iterable
        Values of the fields, in the order of `names`.

    Attributes
    ----------
    names
        Names of the fields, in order.
    ids
        (B,) int64 sample ids if the loader was created with `with_ids=True`, else None. Not part
        of unpacking.
    params
        Stored image field → `ParameterTable` if the loader was created with `with_params=True`,
        else None. Not part of unpacking. The tables count views in the order of the pipelines.
        Where a field is a tuple of tensors, one per view size, each tensor holds its views in that
        order.
    """

    names: tuple[str, ...] = ()
    ids: NDArray[np.int64] | None = None
    params: Mapping[str, ParameterTable] | None = None

    def __getitem__(self, key: Any) -> Any:
        """Return the field with a name, or the fields at an index or a slice."""
        if isinstance(key, str):
            if key not in self.names:
                raise KeyError(f"no field {key!r} in the batch; fields: {', '.join(self.names)}")
            return super().__getitem__(self.names.index(key))
        return super().__getitem__(key)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"no field {name!r} in the batch; fields: {', '.join(self.names)}")

    def __reduce__(self) -> tuple[Any, ...]:
        return make_batch, (dict(zip(self.names, self, strict=True)), self.ids, self.params)

    def __repr__(self) -> str:
        described = (
            tuple(value.shape) if hasattr(value, "shape") else type(value).__name__
            for value in self
        )
        fields = (f"{name}={text}" for name, text in zip(self.names, described, strict=True))
        return f"Batch({', '.join(fields)})"


@functools.lru_cache(maxsize=64)
def _batch_type(names: tuple[str, ...]) -> type[Batch]:
    """Return a named tuple type; torch's collate and distributed code rebuild such types."""
    bases = Batch, namedtuple("Batch", names, rename=True)
    return type("Batch", bases, {"names": names})


def make_batch(
    values: Mapping[str, Any],
    ids: NDArray[np.int64] | None = None,
    params: Mapping[str, ParameterTable] | None = None,
) -> Batch:
    """Create a batch.

    Parameters
    ----------
    values
        Field name → value, in the order of the fields.
    ids
        (B,) int64 sample ids, or None.
    params
        Stored image field → parameter table, or None.

    Returns
    -------
    Batch
        The fields as a named tuple.
    """
    batch = _batch_type(tuple(values))(*values.values())
    batch.ids, batch.params = ids, params
    return batch
