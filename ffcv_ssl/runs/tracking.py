"""Weights & Biases, for those who have it."""

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ffcv_ssl.errors import ConfigError

ID_FILE = "wandb_id.txt"  # so that a continued run goes on under the same name there


def require_wandb() -> None:
    """Raise ConfigError unless the package is installed."""
    if importlib.util.find_spec("wandb") is None:
        raise ConfigError("log.wandb: Weights & Biases is not installed. Run `pip install wandb`, or leave log.wandb off.")


def begin_wandb(folder: Path, project: str, config: Mapping[str, Any], is_resumed: bool) -> Any:
    """Begin the run of a folder, or go on with it; what comes back has `log(values, step=…)` and `finish()`."""
    import wandb

    file = folder / ID_FILE
    known = {"id": file.read_text(encoding="utf-8"), "resume": "allow"} if is_resumed and file.exists() else {}
    run = wandb.init(project=project, name=folder.name, dir=str(folder), config=dict(config), **known)
    file.write_text(run.id, encoding="utf-8")
    return run
