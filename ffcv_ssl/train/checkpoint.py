"""Checkpoints that are whole or absent, and hold all that an exact continuation needs."""

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

FORMAT = 1
LONGEST_REASON = 300  # characters of another library's message


def save_atomically(content: Any, path: Path) -> None:
    """Write with `torch.save` so that `path` holds the old or the new content whole, whenever the process or machine dies."""
    with replacing(resolve_target(path)) as descriptor, os.fdopen(descriptor, "wb", closefd=False) as file:
        torch.save(content, file)


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint, bytes compared with their checksums; nothing in it is executed (`weights_only=True`).

    Raises
    ------
    CheckpointError
        If the file is missing, broken or of another kind.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()  # torch itself loads altered weights without a word
        content = None if damaged else torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: there is no checkpoint.") from error
    except Exception as error:  # zipfile and torch raise many types for broken archives and refused pickles
        raise CheckpointError(f"{path}: not a readable checkpoint: {short_reason(error)}") from error
    if damaged:
        raise CheckpointError(f"{path}: not a readable checkpoint: the bytes of {damaged!r} do not match their checksum.")
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        found = content.get("format") if isinstance(content, dict) else type(content).__name__
        raise CheckpointError(f"{path}: checkpoint format {found}, this version reads {FORMAT}.")
    return content


def short_reason(error: Exception) -> str:
    """What another library's error says, on one line; its type where it says nothing."""
    return " ".join(str(error).split())[:LONGEST_REASON] or type(error).__name__


def read_weights(path: Path) -> tuple[dict[str, Any], Progress, int]:
    """Weights of the method in a checkpoint, the progress behind them, and the finished passes over the training file.

    Raises
    ------
    CheckpointError
        If the file cannot be read, or does not hold them.
    """
    content = load_checkpoint(path)
    try:
        weights, progress, epochs = dict(content["method"]), Progress(**content["progress"]), int(content["loader"]["epoch"])
        progress.step, progress.seconds = int(progress.step), float(progress.seconds)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{path}: the checkpoint lacks what a run saves: {short_reason(error)}") from error
    return weights, progress, epochs


def kept_name(epoch: int) -> str:
    """File of the weights that are kept after an epoch."""
    return f"epoch_{epoch}.pt"


@dataclass
class Checkpoint:
    """The state of one run: model, optimizer, scaler, loader, generators.

    Parameters
    ----------
    path
        The file; its folder exists.
    method, optimizer, scaler
        What trains.
    loader
        Has `state_dict()` and `load_state_dict()`; its state is small and JSON-able.
    probes
        None, or what trains beside the method; has `state_dict()` and `load_state_dict()`.
    classes
        What the outputs of classifiers mean; None: there are none, or labels are the numbers of the classes.

    Attributes
    ----------
    saved_step
        Step of the checkpoint last saved or restored.
    """

    path: Path
    method: nn.Module
    optimizer: Optimizer
    scaler: torch.amp.GradScaler
    loader: Any
    probes: Any = None
    classes: Classes | None = None
    saved_step: int = field(default=0, init=False)
    saved_at: float = field(default_factory=time.monotonic, init=False)

    def age_s(self) -> float:
        """Seconds since this object last saved or restored (or was made)."""
        return time.monotonic() - self.saved_at

    def is_finite(self) -> bool:
        """Whether every weight and every running statistic is finite."""
        values = [t for t in self.method.state_dict().values() if t.is_floating_point()]
        return bool(torch.stack([torch.isfinite(t).all() for t in values]).all())

    def save(self, progress: Progress) -> None:
        """Write the state between two steps; with several processes rank 0 does, and its generators' state will be that of all."""
        if is_main():
            save_atomically(self._content(progress), self.path)
        self.saved_step, self.saved_at = progress.step, time.monotonic()

    def keep(self, progress: Progress, epoch: int) -> None:
        """Write the weights after an epoch into epoch_N.pt beside the checkpoint, to be judged later; rank 0 does."""
        if is_main():
            content = {"format": FORMAT, "version": __version__, "progress": asdict(progress), "loader": {"epoch": epoch}}
            content["classes"] = self._classes_state()
            save_atomically({**content, "method": self.method.state_dict()}, self.path.with_name(kept_name(epoch)))

    def _content(self, progress: Progress) -> dict[str, Any]:
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
        """Put the saved state into model, optimizer, scaler, loader and generators.

        Raises
        ------
        CheckpointError
            If the file is unreadable or belongs to another model, optimizer or data set.
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
            raise CheckpointError(f"{self.path}: the checkpoint does not fit this run: {short_reason(error)}") from error
        self.saved_step, self.saved_at = progress.step, time.monotonic()
        return progress

    def _classes_state(self) -> dict[str, Any] | None:
        """The classes, where weights depend on labels."""
        has_classifiers = self.probes is not None or getattr(self.method, "uses_labels", False)
        return self.classes.state() if has_classifiers and self.classes is not None else None

    def _check_classes(self, saved: Any) -> None:
        """Refuse to go on with classifiers whose outputs meant other classes."""
        now = self._classes_state()
        if saved is not None and now is not None and saved != now:
            raise CheckpointError(
                f"the classifiers of this run learned {len(saved['labels'])} classes of the field '{saved['field']}', and now there are "
                f"{len(now['labels'])} of '{now['field']}'. Continue with the same data.label, or choose another log.out."
            )


def _restore_generators(rng: Mapping[str, Any]) -> None:
    """Go on with the saved states; processes beside the first, whose states are not kept, go on with seeds drawn from it."""
    torch.set_rng_state(rng["cpu"])
    if rank() > 0:
        torch.manual_seed(int(torch.randint(2**62, ())) + rank())
    elif torch.cuda.is_available() and len(rng["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(rng["cuda"])
