"""`ffcv-ssl export`: the backbone of a run, from its checkpoint, for other programs."""

import sys
from collections.abc import Sequence

from ffcv_ssl.cli.commands.run_options import FilesConfig, RunConfig, open_run
from ffcv_ssl.cli.config.parser import parse
from ffcv_ssl.errors import ConfigError
from ffcv_ssl.evaluate import export_backbone

DESCRIPTION = (
    "Write the backbone of a run's checkpoint as backbone.pt (a plain state_dict) and backbone.safetensors (with metadata) into its "
    "folder, under the names of torchvision and timm. A run does so itself when it ends."
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; errors pass to the caller."""
    run = parse("ffcv-ssl export", {"run": RunConfig}, argv, DESCRIPTION)["run"]
    trained = open_run(run.path, FilesConfig(), run.epoch)
    if not trained.has_views:
        raise ConfigError(f"{run.path}: is exported already; give the folder of a run.")
    written = export_backbone(trained.method, trained.configs, trained.name, trained.folder, trained.steps, trained.epochs)
    sys.stdout.write("".join(f"{name}\n" for name in written))
    return 0
