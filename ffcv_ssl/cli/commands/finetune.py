"""`ffcv-ssl finetune`: train the backbone of a run with labels."""

import sys
from collections.abc import Sequence

from ffcv_ssl.cli.commands.run_options import FilesConfig, RunConfig, open_run
from ffcv_ssl.cli.config.parser import parse
from ffcv_ssl.evaluate import FinetuneConfig, finetune
from ffcv_ssl.runs.measurements import put_entry
from ffcv_ssl.runs.provenance import provenance

DESCRIPTION = (
    "Fine-tune the backbone of a finished run, or an exported backbone, together with a linear "
    "classifier, on all labels or a fraction of them. Evaluate the result on whole images after "
    "the last epoch. The scores go to finetune.json in the folder of the run; a repeated "
    "measurement replaces the earlier one."
)
# Entries of finetune.json that agree in these keys are the same measurement.
IDENTITY = ("train_file", "val_file", "labels", "seed", "options", "precision", "steps")


def main(argv: Sequence[str] | None = None) -> int:
    """Fine-tune the backbone and return the exit status."""
    sections = {"run": RunConfig, "data": FilesConfig, "finetune": FinetuneConfig}
    configs = parse("ffcv-ssl finetune", sections, argv, DESCRIPTION)
    trained = open_run(configs["run"].path, configs["data"], configs["run"].epoch)
    entry = finetune(trained, configs["finetune"])
    path = trained.folder / "finetune.json"
    put_entry(path, {**entry, "made_by": provenance()}, IDENTITY)
    sys.stdout.write(
        f"{entry['method']}, fine-tuned on {entry['num_train']} images: "
        f"test {100 * entry['test']:.2f} %, train {100 * entry['train']:.2f} %, "
        f"{entry['finetune_steps']} steps in {entry['seconds']:.0f} s\n"
        f"written to {path}\n"
    )
    return 0
