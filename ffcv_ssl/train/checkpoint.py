"""Checkpoints: written atomically, and complete enough to continue a run exactly."""

import os
import time
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from ffcv_ssl import __version__
from ffcv_ssl.errors import CheckpointError, FfcvSslError
from ffcv_ssl.system.atomic import replacing, resolve_target
from ffcv_ssl.train.classes import Classes
from ffcv_ssl.train.distributed import is_main, rank
from ffcv_ssl.train.progress import Progress
from ffcv_ssl.train.stateful import Stateful

FORMAT = 1
MAX_REASON = 300  # characters of another library's message


def save_atomically(content: Any, path: Path) -> None:
    """Write a file with `torch.save`, atomically.

    If the process or the machine dies, `path` holds the complete old or the complete new content.
    """
    with (
        replacing(resolve_target(path)) as descriptor,
        os.fdopen(descriptor, "wb", closefd=False) as file,
    ):
        torch.save(content, file)


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint.

    The checksums of all bytes are verified. No code in the file is executed (`weights_only=True`).

    Parameters
    ----------
    path
        Path of the checkpoint.

    Returns
    -------
    dict
        Content of the checkpoint; tensors are on the CPU.

    Raises
    ------
    CheckpointError
        If the file is missing or damaged, or is not a checkpoint of this format.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()  # torch loads altered weights without an error
        content = None if damaged else torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: there is no checkpoint.") from error
    except Exception as error:  # zipfile and torch raise many types
        raise CheckpointError(
            f"{path}: not a readable checkpoint: {short_reason(error)}"
        ) from error
    if damaged:
        raise CheckpointError(
            f"{path}: not a readable checkpoint: the checksum of {damaged!r} does not match."
        )
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        found = content.get("format") if isinstance(content, dict) else type(content).__name__
        raise CheckpointError(
            f"{path}: checkpoint format {found} is not supported; this version reads {FORMAT}."
        )
    return content


def short_reason(error: Exception) -> str:
    """Return the message of another library's error on one line, or its type if it has none."""
    return " ".join(str(error).split())[:MAX_REASON] or type(error).__name__


def read_weights(path: Path) -> tuple[dict[str, Any], Progress, int]:
    """Read the weights and the progress of a checkpoint.

    Parameters
    ----------
    path
        Path of a checkpoint, or of the weights kept after an epoch.

    Returns
    -------
    weights : dict
        State dict of the method.
    progress : Progress
        Progress of the run when the checkpoint was saved.
    epochs : int
        Number of completed passes over the training file.

    Raises
    ------
    CheckpointError
        If the file cannot be read, or lacks one of these.
    """
    content = load_checkpoint(path)
    try:
        weights, epochs = dict(content["method"]), int(content["loader"]["epoch"])
        progress = Progress(**content["progress"])
        progress.step, progress.seconds = int(progress.step), float(progress.seconds)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(
            f"{path}: the checkpoint is incomplete or has entries of the wrong type: "
            f"{short_reason(error)}"
        ) from error
    return weights, progress, epochs


def kept_name(epoch: int) -> str:
    """Return the name of the file that keeps the weights after an epoch."""
    return f"epoch_{epoch}.pt"


@dataclass
class Checkpoint:
    """Checkpoint of one run: model, optimizer, gradient scaler, loader and random generators.

    Parameters
    ----------
    path
        Path of the checkpoint. Its folder must exist.
    method, optimizer, scaler
        Method, optimizer and gradient scaler to save and restore.
    loader
        Loader with `state_dict()` and `load_state_dict()`. Its state must be small and fit for
        JSON.
    probes
        Probes that train beside the method, with `state_dict()` and `load_state_dict()`, or None.
    classes
        Classes that the outputs of classifiers stand for. None if there are no classifiers, or if
        labels are class indices.

    Attributes
    ----------
    saved_step
        Step of the checkpoint last saved or restored.
    saved_at
        Time of that, on the monotonic clock, in seconds.
    """

    path: Path
    method: nn.Module
    optimizer: Optimizer
    scaler: torch.amp.GradScaler
    loader: Stateful
    probes: Stateful | None = None
    classes: Classes | None = None
    saved_step: int = field(default=0, init=False)
    saved_at: float = field(default_factory=time.monotonic, init=False)

    def age_s(self) -> float:
        """Return the seconds since the last save or restore, or since this object was created."""
        return time.monotonic() - self.saved_at

    def is_finite(self) -> bool:
        """Return whether all weights and running statistics are finite."""
        tensors = [t for t in self.method.state_dict().values() if t.is_floating_point()]
        return bool(torch.stack([torch.isfinite(t).all() for t in tensors]).all())

    def save(self, progress: Progress) -> None:
        """Write the checkpoint between two steps.

        With several processes, rank 0 writes, including the state of its random generators only.

        Parameters
        ----------
        progress
            Progress of the run.
        """
        if is_main():
            save_atomically(self._content(progress), self.path)
        self.saved_step, self.saved_at = progress.step, time.monotonic()

    def keep(self, progress: Progress, epoch: int) -> None:
        """Write the weights after an epoch to epoch_N.pt beside the checkpoint; rank 0 writes.

        Parameters
        ----------
        progress
            Progress of the run.
        epoch
            Number of completed passes over the training file.
        """
        if is_main():
            content = {
                "format": FORMAT,
                "version": __version__,
                "progress": asdict(progress),
                "loader": {"epoch": epoch},
                "classes": self._classes_state(),
                "method": self.method.state_dict(),
            }
            save_atomically(content, self.path.with_name(kept_name(epoch)))

    def _content(self, progress: Progress) -> dict[str, Any]:
        """Return the content of the checkpoint."""
        cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
        return {
            "format": FORMAT,
            "version": __version__,
            "progress": asdict(progress),
            "method": self.method.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "loader": self.loader.state_dict(),
            "classes": self._classes_state(),
            "probes": {} if self.probes is None else self.probes.state_dict(),
            "rng": {"cpu": torch.get_rng_state(), "cuda": cuda},
        }

    def restore(self) -> Progress:
        """Restore the saved state of the model, optimizer, scaler, loader and generators.

        Returns
        -------
        Progress
            Progress of the run when the checkpoint was saved.

        Raises
        ------
        CheckpointError
            If the file cannot be read or belongs to another model, optimizer or data set.
        """
        content = load_checkpoint(self.path)
        try:
            self._check_classes(content.get("classes"))
            self.method.load_state_dict(content["method"])
            self.optimizer.load_state_dict(content["optimizer"])
            self.scaler.load_state_dict(content["scaler"])
            self.loader.load_state_dict(content["loader"])
            if self.probes is not None:
                self.probes.load_state_dict(content["probes"])
            _restore_generators(content["rng"])
            progress = Progress(**content["progress"])
        except FfcvSslError as error:
            raise CheckpointError(f"{self.path}: {error}") from error
        except Exception as error:  # torch's state dicts raise many types
            raise CheckpointError(
                f"{self.path}: the checkpoint does not fit this run: {short_reason(error)}"
            ) from error
        self.saved_step, self.saved_at = progress.step, time.monotonic()
        return progress

    def _classes_state(self) -> dict[str, Any] | None:
        """Return the state of the classes, or None if no weights depend on labels."""
        has_classifiers = self.probes is not None or getattr(self.method, "uses_labels", False)
        return self.classes.state() if has_classifiers and self.classes is not None else None

    def _check_classes(self, saved: Any) -> None:
        """Raise CheckpointError if the saved classifiers were trained on other classes."""
        current = self._classes_state()
        if saved is not None and current is not None and saved != current:
            raise CheckpointError(
                f"the classifiers of this run were trained on {len(saved['labels'])} classes of "
                f"the field '{saved['field']}', but the field '{current['field']}' has "
                f"{len(current['labels'])} other classes. Continue with the same data.label, or "
                "choose another log.out."
            )


def _restore_generators(rng: Mapping[str, Any]) -> None:
    """Restore the random generators.

    Only the states of rank 0 are saved. The other processes use seeds drawn from them.
    """
    torch.set_rng_state(rng["cpu"])
    if rank() > 0:
        torch.manual_seed(int(torch.randint(2**62, ())) + rank())
    elif torch.cuda.is_available() and len(rng["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(rng["cuda"])
