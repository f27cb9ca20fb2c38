"""`ffcv-ssl demo`: write images to a file, train SimCLR and EMP-SSL on it, and compare them."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.resources import files as resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ffcv_ssl.cli.commands.train import load_recipe
from ffcv_ssl.cli.config.parser import parse
from ffcv_ssl.recipes.demo.training import print_line, train_at_once
from ffcv_ssl.system.cores import allowed_cores

if TYPE_CHECKING:
    from ffcv_ssl.recipes.demo.files import DemoConfig, DemoFiles

DESCRIPTION = (
    "Draw labeled images (or take a folder), write them to files, train SimCLR and EMP-SSL for the "
    "same few minutes, and compare their features with raw pixels and with the untrained network. "
    "Needs no data and no internet connection."
)
LARGEST_CIFAR_STEM = 64  # pixels; larger views start with a 7x7 convolution and pooling


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demonstration and return the exit status; let errors propagate."""
    from ffcv_ssl.recipes.demo.figure import draw_demo
    from ffcv_ssl.recipes.demo.files import ROWS, TRAINED, DemoConfig, write_files
    from ffcv_ssl.recipes.demo.scores import baseline_scores, demo_result, demo_table, write_result

    start = time.perf_counter()
    demo = parse("ffcv-ssl demo", {"demo": DemoConfig}, argv, DESCRIPTION)["demo"]
    out = Path(demo.out)

    files = write_files(demo)
    print_line(
        f"{files.title}: {files.num_train:,} for training, {files.num_val:,} for validation, "
        f"{len(files.class_names)} classes"
    )
    for note in files.notes:
        print_line(f"  {note}")
    print_line(f"  written to {files.train} and {files.val}")

    runs = {method: out / method for method in TRAINED}
    configs = {
        method: recipe_config(method, demo, files, folder) for method, folder in runs.items()
    }
    reference = configs["simclr"]
    scores = baseline_scores(
        reference["data"], reference["eval"], reference["model"], reference["train"], demo.size
    )
    raw, untrained = scores["raw"]["knn"], scores["untrained"]["knn"]
    print_line(f"raw pixels: kNN {raw:.1%}, untrained network: kNN {untrained:.1%}")
    methods = " and ".join(ROWS[method] for method in TRAINED)
    print_line(f"training {methods} at the same time, {demo.minutes:g} min …")
    scores |= train_at_once(configs, runs)

    result = demo_result(scores, time.perf_counter() - start, files, demo)
    draw_demo(out / "demo.png", files.train, pipelines(configs), runs, result, demo.seed)
    result["seconds"] = time.perf_counter() - start
    path = write_result(result, out)
    written = f"{path} and {out / 'demo.png'} after {result['seconds']:.0f} s"
    print_line(f"\n{demo_table(result)}\n\n{written}")
    return 0


def recipe_config(
    method: str, demo: "DemoConfig", files: "DemoFiles", folder: Path
) -> dict[str, Any]:
    """Return the configuration of a recipe, adapted to the demonstration.

    Parameters
    ----------
    method
        "simclr" or "emp_ssl".
    demo
        Options of the demonstration.
    files
        Files to train and evaluate on.
    folder
        Folder of the run.

    Returns
    -------
    dict
        Section name → options.
    """
    threads = max(1, allowed_cores() // 2)
    flags: dict[str, Any] = {
        "data.train": files.train,
        "data.val": files.val,
        "data.workers": min(abs(demo.workers), threads),
        "train.minutes": demo.minutes,
        "train.threads": threads,
        "train.seed": demo.seed,
        "log.out": folder,
    }
    if method == "simclr":
        flags |= {"view.size": demo.size}
    else:
        # Patches at their own resolution: a quarter of the arithmetic, and objects at the scale
        # that they have in the whole images of the evaluation.
        side = demo.size // 2
        flags |= {"view.patch": side, "view.size": side, "view.image_size": demo.size}
    if demo.size > LARGEST_CIFAR_STEM:
        flags |= {"model.stem": "imagenet"}
    recipe = resources("ffcv_ssl.recipes") / f"{method}_demo.yaml"
    arguments = [f"--config-file={recipe}", *(f"--{name}={value}" for name, value in flags.items())]
    configs = parse(method, load_recipe(method).sections, arguments)
    # At least two batches from a small folder.
    batch_size = min(configs["train"].batch_size, max(2, files.num_train // 2))
    return configs | {"train": replace(configs["train"], batch_size=batch_size)}


def pipelines(configs: Mapping[str, Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Return the view pipelines of the recipes, to draw them.

    Parameters
    ----------
    configs
        Method → section name → options.

    Returns
    -------
    dict
        Method → list of transforms.
    """
    views = {method: config["view"] for method, config in configs.items()}
    return {method: view.pipeline(view.size, view.num_views) for method, view in views.items()}
