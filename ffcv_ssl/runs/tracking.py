"""Optional logging to Weights & Biases."""

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ffcv_ssl.errors import ConfigError

ID_FILE = "wandb_id.txt"  # lets a resumed run continue the same Weights & Biases run


def require_wandb() -> None:
    """Raise ConfigError unless the wandb package is installed."""
    if importlib.util.find_spec("wandb") is None:
        raise ConfigError(
            "log.wandb: Weights & Biases is not installed. Run `pip install wandb`, or turn "
            "log.wandb off."
        )


def begin_wandb(folder: Path, project: str, config: Mapping[str, Any], is_resumed: bool) -> Any:
    """Start or continue a Weights & Biases run.

    Parameters
    ----------
    folder
        Folder of the run; its name becomes the name of the Weights & Biases run.
    project
        Name of the project.
    config
        Configuration to store.
    is_resumed
        Whether to continue the run whose id is stored in the folder.

    Returns
    -------
    wandb.Run
        Run with `log(values, step=…)` and `finish()`.
    """
    import wandb

    file = folder / ID_FILE
    known = {}
    if is_resumed and file.exists():
        known = {"id": file.read_text(encoding="utf-8"), "resume": "allow"}
    run = wandb.init(
        project=project, name=folder.name, dir=str(folder), config=dict(config), **known
    )
    file.write_text(run.id, encoding="utf-8")
    return run
