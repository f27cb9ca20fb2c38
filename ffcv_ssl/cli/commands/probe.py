"""`ffcv-ssl probe`: a finished run judged by the published protocols."""

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
    "Judge the features of a finished run, or of an exported backbone, by the published protocols, on its own files or on others. "
    "Writes probe.json beside it; measuring again replaces what was measured."
)
COLUMNS = {"protocol": 18, "features": 8, "views": 5, "augmentation": 23, "classifier": 51, "train": 5, "test (best)": 13, "s": 6}
IDENTITY = ("protocol", "train_file", "val_file", "labels", "seed", "views", "classifier", "precision", "steps")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; errors pass to the caller."""
    configs = parse("ffcv-ssl probe", {"run": RunConfig, "data": FilesConfig, "probe": ProbeConfig}, argv, DESCRIPTION)
    config = configs["probe"]
    trained = open_run(configs["run"].path, configs["data"], configs["run"].epoch)
    device, precision = prepare_torch(replace(trained.configs.train, device=config.device, precision=config.precision))
    circumstances = {"device": describe_device(device), "precision": precision, "made_by": provenance()}
    path = trained.folder / "probe.json"
    entries = probe(trained, config, device, precision)
    sys.stdout.write(row(COLUMNS))
    for entry in entries:
        put_entry(path, {**entry, **circumstances}, IDENTITY)
        sys.stdout.write(row(cells(entry)))
        sys.stdout.flush()
    sys.stdout.write(f"written to {path}\n")
    return 0


def cells(entry: Mapping[str, Any]) -> list[str]:
    """One measurement, as the table shows it; accuracies in percent."""
    train, test, best = ("-" if entry[name] is None else f"{100 * entry[name]:.2f}" for name in ("train", "test", "best"))
    shown = [entry[name] for name in ("protocol", "num_features", "views", "augmentation", "classifier")]
    return [*map(str, shown), train, test if entry["best"] is None else f"{test} ({best})", f"{entry['seconds']:.1f}"]


def row(cells: Iterable[str]) -> str:
    """One line of the table."""
    return "  ".join(f"{cell:{width}}" for cell, width in zip(cells, COLUMNS.values(), strict=True)).rstrip() + "\n"
