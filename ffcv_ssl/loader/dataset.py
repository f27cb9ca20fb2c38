"""Random access to a .beton file, for code that wants a torch dataset."""

import os
from collections.abc import Mapping
from typing import Any

import torch.utils.data

from ffcv_ssl.beton.reader import BetonReader
from ffcv_ssl.fields.base import Field


class BetonDataset(torch.utils.data.Dataset):
    """Samples of a .beton file as tuples of decoded values, in file order of the fields; images are (H, W, 3) uint8.

    Can be pickled, and shared by the workers of a torch DataLoader.

    Parameters
    ----------
    path
        The .beton file.
    custom_fields
        Field classes of custom fields, by field name.
    """

    def __init__(
        self, path: str | os.PathLike, custom_fields: Mapping[str, type[Field]] | None = None
    ):
        self.reader = BetonReader(path, custom_fields or {})

    def __len__(self) -> int:
        return len(self.reader)

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        """Return sample `index`, counted from 0, or from the end if negative; IndexError outside."""
        position = index + len(self) if index < 0 else index
        if not 0 <= position < len(self):
            raise IndexError(f"{self.reader.path}: no sample {index}; it has {len(self)}.")
        return tuple(self.reader.value(position, name) for name in self.reader.fields)
