"""Position of a loader in its epochs: set, saved and restored."""

from collections.abc import Mapping
from typing import Any

from ffcv_ssl.errors import PipelineError
from ffcv_ssl.loader.engine.epoch import Progress
from ffcv_ssl.loader.opened_file import OpenedFile
from ffcv_ssl.loader.state import check_state


class Resumable:
    """Base of `Loader` that keeps its position and implements `state_dict`.

    Attributes
    ----------
    epoch
        Number of the next epoch.
    """

    path: str
    world_size: int
    _file: OpenedFile

    def __init__(self) -> None:
        self._resume_at(0, 0)

    def _resume_at(self, epoch: int, position: int) -> None:
        """Begin the next iteration at a position of an epoch."""
        self.epoch, self._resume_position = epoch, position
        self._progress = Progress(epoch, position)

    def _check_position_after_filter(self, keeps_all: bool) -> None:
        """Check that the position to resume at has a meaning in a filtered loader."""
        if self._resume_position and not keeps_all:
            raise PipelineError(
                f"{self.path}: this loader resumes epoch {self.epoch} at position "
                f"{self._resume_position}, which has no meaning in another selection of samples. "
                "Filter before loading a state, and load the state of a filtered loader."
            )

    @property
    def wait_s(self) -> float:
        """Time that the consumer has waited for batches in the current epoch, in seconds.

        After an epoch, the value for that epoch.
        """
        return self._progress.wait_s

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch that the next iteration renders, from its beginning.

        After `load_state_dict`, setting the epoch of the state keeps the position in it.

        Parameters
        ----------
        epoch
            Number of the epoch, >= 0.
        """
        if int(epoch) == self.epoch and self._resume_position:
            return
        self._resume_at(int(epoch), 0)

    def state_dict(self) -> dict[str, Any]:
        """Return the position after the last batch that the loader returned.

        Returns
        -------
        dict
            A few numbers and short texts, which JSON can hold.
        """
        return {
            **self._file.state_identity(),
            "epoch": self._progress.epoch,
            "position": self._progress.position,
            "world_size": self.world_size,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume from a saved position.

        The loader may have another batch size, number of threads or world size than the loader
        that saved the state.

        Parameters
        ----------
        state
            Return value of `state_dict`.

        Raises
        ------
        CheckpointError
            If the state belongs to another file, selection, seed or order, or to other weights.
        """
        num_samples = len(self._file.selection.indices)
        check_state(state, self._file.state_identity(), num_samples, self.path)
        self._resume_at(int(state["epoch"]), int(state["position"]))
