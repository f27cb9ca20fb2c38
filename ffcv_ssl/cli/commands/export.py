"""`ffcv-ssl export`: write the backbone of a run for other programs."""

import sys
from collections.abc import Sequence

from ffcv_ssl.cli.commands.run_options import FilesConfig, RunConfig, open_run
from ffcv_ssl.cli.config.parser import parse
from ffcv_ssl.errors import ConfigError
from ffcv_ssl.evaluate import export_backbone

DESCRIPTION = (
    "Write the backbone of a checkpoint to the folder of the run, as backbone.pt (a plain "
    "state_dict) and backbone.safetensors (with metadata), with the parameter names of torchvision "
    "and timm. A run exports its backbone when it ends; use this command for an unfinished run or "
    "another epoch."
)


def main(argv: Sequence[str] | None = None) -> int:
    """Export the backbone and return the exit status."""
    run = parse("ffcv-ssl export", {"run": RunConfig}, argv, DESCRIPTION)["run"]
    trained = open_run(run.path, FilesConfig(), run.epoch)
    if not trained.has_views:
        raise ConfigError(f"{run.path}: this is an exported backbone; give the folder of a run.")
    written = export_backbone(
        trained.method,
        trained.configs,
        trained.name,
        trained.folder,
        trained.steps,
        trained.epochs,
    )
    sys.stdout.write("".join(f"{name}\n" for name in written))
    return 0
