"""A loader whose views change their size between epochs."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ffcv_ssl.loader import Loader


class GrowingLoader:
    """A loader whose views change their size between epochs.

    Sample order and position are those of a single loader.

    Parameters
    ----------
    open_loader
        Function that opens a loader for a side length in pixels. All loaders must iterate over the
        same samples in the same order.
    size_at
        Function that maps the index of an epoch to the side length of its views in pixels.
    """

    def __init__(self, open_loader: Callable[[int], Loader], size_at: Callable[[int], int]) -> None:
        self.open_loader, self.size_at = open_loader, size_at
        self.size = size_at(0)
        self.loader = open_loader(self.size)

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Any]:
        """Iterate over the next epoch."""
        self._resize(self.size_at(self.loader.epoch))
        return iter(self.loader)

    def _resize(self, size: int) -> None:
        """Open a loader for another view size, at the same position."""
        if size != self.size:
            epoch, state = self.loader.epoch, self.loader.state_dict()
            self.loader.close()
            self.loader, self.size = self.open_loader(size), size
            self.loader.load_state_dict(state)
            if state["epoch"] != epoch:  # the consumer left the last epoch early
                self.loader.set_epoch(epoch)

    def state_dict(self) -> dict[str, Any]:
        """Return the position of the current loader; see `Loader.state_dict`."""
        return self.loader.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a saved position.

        Parameters
        ----------
        state
            State from `state_dict`.
        """
        self.loader.load_state_dict(state)

    def __enter__(self) -> "GrowingLoader":
        return self

    def __exit__(self, *_: object) -> None:
        self.loader.close()
