"""`ffcv-ssl demo`: images become a file, the file feeds SimCLR and EMP-SSL, one table shows what they learned."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.resources import files as resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ffcv_ssl.cli.commands.train import load_recipe
from ffcv_ssl.cli.config.parser import parse
from ffcv_ssl.recipes.demo.training import say, train_at_once
from ffcv_ssl.system.cores import allowed_cores

if TYPE_CHECKING:
    from ffcv_ssl.recipes.demo.files import DemoConfig, DemoFiles

DESCRIPTION = (
    "Draw a labelled image set (or take a folder), write it, train SimCLR and EMP-SSL for the same few minutes, and compare their "
    "features with raw pixels and with the untrained network. Needs neither data nor network."
)
LARGEST_CIFAR_STEM = 64  # pixels; larger views begin with a 7x7 convolution and pooling


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demonstration; errors pass to the caller."""
    from ffcv_ssl.recipes.demo.figure import draw_demo
    from ffcv_ssl.recipes.demo.files import (
        ROWS,
        TRAINED,
        DemoConfig,
        baseline_scores,
        demo_result,
        demo_table,
        write_files,
        write_result,
    )

    started = time.perf_counter()
    demo = parse("ffcv-ssl demo", {"demo": DemoConfig}, argv, DESCRIPTION)["demo"]
    out = Path(demo.out)

    files = write_files(demo)
    say(
        f"{files.title}: {files.num_train:,} to train on, {files.num_val:,} held out, {len(files.class_names)} classes"
    )
    for note in files.notes:
        say(f"  {note}")
    say(f"  written to {files.train} and {files.val}")

    runs = {method: out / method for method in TRAINED}
    configs = {
        method: recipe_config(method, demo, files, folder) for method, folder in runs.items()
    }
    reference = configs["simclr"]
    scores = baseline_scores(
        reference["data"], reference["eval"], reference["model"], reference["train"], demo.size
    )
    say(
        f"raw pixels: kNN {scores['raw']['knn']:.1%}, untrained network: kNN {scores['untrained']['knn']:.1%}"
    )
    say(
        f"training {' and '.join(ROWS[method] for method in TRAINED)} at once, {demo.minutes:g} min …"
    )
    scores |= train_at_once(configs, runs)

    numbers = demo_result(scores, time.perf_counter() - started, files, demo)
    draw_demo(out / "demo.png", files.train, pipelines(configs), runs, numbers, demo.seed)
    numbers["seconds"] = time.perf_counter() - started
    path = write_result(numbers, out)
    say(
        f"\n{demo_table(numbers)}\n\n{path} and {out / 'demo.png'} after {numbers['seconds']:.0f} s"
    )
    return 0


def recipe_config(
    method: str, demo: "DemoConfig", files: "DemoFiles", folder: Path
) -> dict[str, Any]:
    """The recipe's configuration for the demonstration, made to fit its files and time."""
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
    else:  # patches at their own resolution: a quarter of the arithmetic, and the scale of the whole images that are judged
        flags |= {
            "view.patch": demo.size // 2,
            "view.size": demo.size // 2,
            "view.image_size": demo.size,
        }
    if demo.size > LARGEST_CIFAR_STEM:
        flags |= {"model.stem": "imagenet"}
    yaml = resources("ffcv_ssl.recipes") / f"{method}_demo.yaml"
    configs = parse(
        method,
        load_recipe(method).sections,
        [f"--config-file={yaml}", *(f"--{name}={value}" for name, value in flags.items())],
    )
    batch_size = min(
        configs["train"].batch_size, max(2, files.num_train // 2)
    )  # of few images still a batch or two
    return configs | {"train": replace(configs["train"], batch_size=batch_size)}


def pipelines(configs: Mapping[str, Mapping[str, Any]]) -> dict[str, list[Any]]:
    """The views that the recipes train on, to show them."""
    views = {method: config["view"] for method, config in configs.items()}
    return {method: view.pipeline(view.size, view.num_views) for method, view in views.items()}
