"""`ffcv-ssl finetune`: a run's backbone trained on with labels, all or few."""

import sys
from collections.abc import Sequence

from ffcv_ssl.cli.commands.run_options import FilesConfig, RunConfig, open_run
from ffcv_ssl.cli.config.parser import parse
from ffcv_ssl.evaluate import FinetuneConfig, finetune
from ffcv_ssl.runs.measurements import put_entry
from ffcv_ssl.runs.provenance import provenance

DESCRIPTION = (
    "Fine-tune the backbone of a finished run, or an exported one, with a linear classifier on all labels or a share of them, and judge it "
    "on whole images after the last epoch. Writes finetune.json beside it; repeating replaces what was measured."
)
IDENTITY = ("train_file", "val_file", "labels", "seed", "options", "precision", "steps")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; errors pass to the caller."""
    configs = parse("ffcv-ssl finetune", {"run": RunConfig, "data": FilesConfig, "finetune": FinetuneConfig}, argv, DESCRIPTION)
    trained = open_run(configs["run"].path, configs["data"], configs["run"].epoch)
    entry = finetune(trained, configs["finetune"])
    path = trained.folder / "finetune.json"
    put_entry(path, {**entry, "made_by": provenance()}, IDENTITY)
    accuracies = f"test {100 * entry['test']:.2f} %, train {100 * entry['train']:.2f} %"
    cost = f"{entry['finetune_steps']} steps in {entry['seconds']:.0f} s"
    sys.stdout.write(f"{entry['method']}, fine-tuned on {entry['num_train']} images: {accuracies}, {cost}\nwritten to {path}\n")
    return 0
