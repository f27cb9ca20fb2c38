"""Whether a run may go on under its options of now, and what that does to its schedule."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from ffcv_ssl.errors import ConfigError
from ffcv_ssl.runs.saved_config import read_run
from ffcv_ssl.ssl import warmup_cosine
from ffcv_ssl.train.checkpoint import read_weights

logger = logging.getLogger("ffcv_ssl")

# What may change when a run is continued, because it decides where, how long or how watched the
# training is, not what it learns. (That the data are the same is checked by the loader's own state,
# that the labels are by the checkpoint's.)
FREE_SECTIONS = {"log", "eval", "bag"}
FREE_DATA = ("train", "val", "label", "workers", "fraction", "cache", "render")
FREE_TRAIN = ("resume", "device", "threads", "epochs", "minutes", "keep", "checkpoint_minutes", "compile", "recompute")
FREE_FIELDS = {("train", name) for name in FREE_TRAIN} | {("data", name) for name in FREE_DATA}
UNSET = ("", 0, -1)  # how earlier versions wrote an option that is not set
LENGTH = ("epochs", "minutes")  # what decides where a run ends


def check_resume(folder: Path, method: str, configs: Mapping[str, Mapping[str, Any]], resume: bool | Literal["extend"]) -> None:
    """Compare what decides the weights with what the run was begun with; say what another length does.

    Parameters
    ----------
    folder
        Of the run, with a checkpoint.
    method
        Its name.
    configs
        Section → option → value.
    resume
        "extend" continues a finished run to another length.

    Raises
    ------
    ConfigError
        If the weights would depend on another option than so far, or a finished run is given another
        length without "extend".
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
            if section not in FREE_SECTIONS and (section, option) not in FREE_FIELDS and old != value:
                raise ConfigError(f"{folder}: the run was begun with {section}.{option}={old}, not {value}; choose another --log.out.")
    old_length, length = ({name: part.get("train", {}).get(name) or None for name in LENGTH} for part in (before, configs))
    if old_length != length:
        _check_length(folder, old_length, length, configs.get("optim", {}), resume)


def _check_length(folder: Path, before: Mapping[str, Any], now: Mapping[str, Any], optim: Mapping[str, Any], resume: Any) -> None:
    """Refuse to make a finished run longer unless asked to; say what the learning rate will do."""
    path = folder / "checkpoint.pt"
    _, progress, epochs = read_weights(path)
    if not progress.step:
        return

    def share(length: Mapping[str, Any]) -> float:
        of_epochs = epochs / length["epochs"] if length["epochs"] else 0.0
        return max(of_epochs, progress.seconds / (60 * length["minutes"]) if length["minutes"] else 0.0)

    def rate(length: Mapping[str, Any]) -> str:
        return f"{warmup_cosine(min(1.0, share(length)), optim.get('warmup', 0.0), optim.get('final', 0.0)):.0%}"

    changed = ", ".join(f"train.{option}={now[option]} instead of {before[option]}" for option in LENGTH if before[option] != now[option])
    is_finished = share(before) >= 1
    done = f"{folder}: {'finished' if is_finished else 'stopped'} after {epochs} epochs and {progress.seconds / 60:.3g} minutes"
    if share(now) >= 1:
        raise ConfigError(
            f"{done}. With {changed} nothing is left to train. Leave the length as it is, or choose another --log.out; "
            f"ffcv-ssl probe {folder} evaluates the run as it is."
        )
    jump = f"the learning rate goes on at {rate(now)} of its highest, after {rate(before)}: not as in a run of that length from the start"
    if is_finished and resume != "extend":
        raise ConfigError(f"{done}. With {changed}, {jump}. --train.resume=extend does so; else choose another --log.out.")
    logger.warning(f"{done}. With {changed}, {jump}.")
