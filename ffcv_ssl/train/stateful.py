"""Interfaces of objects whose state a checkpoint saves."""

from collections.abc import Iterator, Mapping
from typing import Any, Protocol


class Stateful(Protocol):
    """An object whose state can be saved and restored."""

    def state_dict(self) -> dict[str, Any]:
        """Return the state."""
        ...

    def load_state_dict(self, state: Mapping[str, Any], /) -> None:
        """Restore a state."""
        ...


class BatchLoader(Stateful, Protocol):
    """A loader of batches whose position in the epoch can be saved and restored."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Any]: ...
