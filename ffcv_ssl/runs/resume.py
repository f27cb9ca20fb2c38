"""Check whether a run may be resumed with changed options."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from ffcv_ssl.errors import ConfigError
from ffcv_ssl.runs.saved_config import read_run
from ffcv_ssl.ssl import warmup_cosine
from ffcv_ssl.train.checkpoint import read_weights

logger = logging.getLogger("ffcv_ssl")

# Options that may change when a run is resumed, because they do not affect the weights. (The
# loader's saved state checks that the data are the same, and the checkpoint that the labels are.)
FREE_SECTIONS = {"log", "eval", "bag"}
FREE_DATA = ("train", "val", "label", "workers", "fraction", "cache", "render")
FREE_TRAIN = (
    "resume",
    "device",
    "threads",
    "epochs",
    "minutes",
    "keep",
    "checkpoint_minutes",
    "compile",
    "recompute",
)
FREE_OPTIONS = {("train", name) for name in FREE_TRAIN} | {("data", name) for name in FREE_DATA}
UNSET = ("", 0, -1)  # values that earlier versions wrote for "not set"
LENGTH = ("epochs", "minutes")  # options that determine the length of a run

Resume = bool | Literal["extend"]


def check_resume(
    folder: Path, method: str, configs: Mapping[str, Mapping[str, Any]], resume: Resume
) -> None:
    """Check that a run may be resumed with the given options.

    A warning is logged if a changed length makes the learning rate jump.

    Parameters
    ----------
    folder
        Folder of the run, with a checkpoint.
    method
        Name of the method.
    configs
        Section → option → value.
    resume
        "extend" allows a finished run to continue to another length.

    Raises
    ------
    ConfigError
        If an option that affects the weights has changed, or a finished run has another length
        without "extend".
    """
    if not (folder / "config.yaml").exists():
        return
    name, before = read_run(folder)
    if name != method:
        raise ConfigError(f"{folder}: holds a run of {name}; choose another --log.out.")
    for section, options in configs.items():
        for option, value in options.items():
            old = before.get(section, {}).get(option, value)
            old = None if value is None and old in UNSET else old
            is_free = section in FREE_SECTIONS or (section, option) in FREE_OPTIONS
            if not is_free and old != value:
                raise ConfigError(
                    f"{folder}: the run was started with {section}.{option}={old}, not {value}; "
                    "choose another --log.out."
                )
    old_length, new_length = (
        {name: part.get("train", {}).get(name) or None for name in LENGTH}
        for part in (before, configs)
    )
    if old_length != new_length:
        _check_length(folder, old_length, new_length, configs.get("optim", {}), resume)


def _check_length(
    folder: Path,
    before: Mapping[str, Any],
    after: Mapping[str, Any],
    optim: Mapping[str, Any],
    resume: Resume,
) -> None:
    """Raise ConfigError if the new length is not allowed; warn if the learning rate jumps."""
    _, progress, epochs = read_weights(folder / "checkpoint.pt")
    if not progress.step:
        return

    def fraction_done(length: Mapping[str, Any]) -> float:
        of_epochs = epochs / length["epochs"] if length["epochs"] else 0.0
        of_minutes = progress.seconds / (60 * length["minutes"]) if length["minutes"] else 0.0
        return float(max(of_epochs, of_minutes))

    def rate(length: Mapping[str, Any]) -> str:
        warmup, final = optim.get("warmup", 0.0), optim.get("final", 0.0)
        return f"{warmup_cosine(min(1.0, fraction_done(length)), warmup, final):.0%}"

    changes = ", ".join(
        f"train.{option}={after[option]} instead of {before[option]}"
        for option in LENGTH
        if before[option] != after[option]
    )
    is_finished = fraction_done(before) >= 1
    state = (
        f"{folder}: {'finished' if is_finished else 'stopped'} after {epochs} epochs and "
        f"{progress.seconds / 60:.3g} minutes"
    )
    if fraction_done(after) >= 1:
        raise ConfigError(
            f"{state}. With {changes} no step is left to train. Keep the length, or choose another "
            f"--log.out; ffcv-ssl probe {folder} evaluates the run as it is."
        )
    jump = (
        f"the learning rate continues at {rate(after)} of its peak, after {rate(before)}; a run of "
        "that length from the start would differ"
    )
    if is_finished and resume != "extend":
        raise ConfigError(
            f"{state}. With {changes}, {jump}. Use --train.resume=extend to accept this, or choose "
            "another --log.out."
        )
    logger.warning(f"{state}. With {changes}, {jump}.")
