"""`ffcv-ssl probe`: evaluate the features of a finished run with published protocols."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ffcv_ssl.cli.commands.run_options import FilesConfig, RunConfig, open_run
from ffcv_ssl.cli.config.parser import parse
from ffcv_ssl.evaluate import ProbeConfig, probe
from ffcv_ssl.runs.measurements import put_entry
from ffcv_ssl.runs.provenance import provenance
from ffcv_ssl.train import prepare_torch
from ffcv_ssl.train.device import describe_device

DESCRIPTION = (
    "Evaluate the features of a finished run, or of an exported backbone, with published "
    "protocols, on the files of the run or on others. The scores go to probe.json in the folder of "
    "the run; a repeated measurement replaces the earlier one."
)
COLUMNS = {  # of the printed table, with their widths
    "protocol": 18,
    "features": 8,
    "views": 5,
    "augmentation": 23,
    "classifier": 51,
    "train": 5,
    "test (best)": 13,
    "s": 6,
}
# Entries of probe.json that agree in these keys are the same measurement.
IDENTITY = (
    "protocol",
    "train_file",
    "val_file",
    "labels",
    "seed",
    "views",
    "classifier",
    "precision",
    "steps",
)


def main(argv: Sequence[str] | None = None) -> int:
    """Evaluate the run and return the exit status."""
    sections = {"run": RunConfig, "data": FilesConfig, "probe": ProbeConfig}
    configs = parse("ffcv-ssl probe", sections, argv, DESCRIPTION)
    config = configs["probe"]
    trained = open_run(configs["run"].path, configs["data"], configs["run"].epoch)
    settings = replace(trained.configs.train, device=config.device, precision=config.precision)
    device, precision = prepare_torch(settings)
    circumstances = {
        "device": describe_device(device),
        "precision": precision,
        "made_by": provenance(),
    }
    path = trained.folder / "probe.json"
    entries = probe(trained, config, device, precision)
    sys.stdout.write(_row(COLUMNS))
    for entry in entries:
        put_entry(path, {**entry, **circumstances}, IDENTITY)
        sys.stdout.write(_row(_cells(entry)))
        sys.stdout.flush()
    sys.stdout.write(f"written to {path}\n")
    return 0


def _cells(entry: Mapping[str, Any]) -> list[str]:
    """Format one measurement for the table, accuracies in percent."""
    train, test, best = (
        "-" if entry[name] is None else f"{100 * entry[name]:.2f}"
        for name in ("train", "test", "best")
    )
    names = ("protocol", "num_features", "views", "augmentation", "classifier")
    return [
        *(str(entry[name]) for name in names),
        train,
        test if entry["best"] is None else f"{test} ({best})",
        f"{entry['seconds']:.1f}",
    ]


def _row(cells: Iterable[str]) -> str:
    """Format one line of the table."""
    padded = (f"{cell:{width}}" for cell, width in zip(cells, COLUMNS.values(), strict=True))
    return "  ".join(padded).rstrip() + "\n"
