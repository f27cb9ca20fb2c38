"""A map of the validation images as trained runs see them: t-SNE of their embeddings, runs side by side, coloured by class.

Command    python recipes/embedding_map.py RUN RUN … --out=map.png
           (each RUN is the folder of a run or an exported backbone.safetensors; --help lists every option.)
Needs      scikit-learn: pip install 'ffcv_ssl[viz]'
Sources    t-SNE: van der Maaten and Hinton, JMLR 9 (2008). Distances between clusters and their sizes mean nothing.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from ffcv_ssl.cli.commands.run_options import FilesConfig, open_run
from ffcv_ssl.cli.config.parser import parse
from ffcv_ssl.cli.status import exit_status
from ffcv_ssl.errors import ConfigError
from ffcv_ssl.evaluate import Trained, extract_features
from ffcv_ssl.loader import Loader, OrderOption
from ffcv_ssl.reader import Reader
from ffcv_ssl.system.names import caption
from ffcv_ssl.system.paths import LocalPath, expanded_path
from ffcv_ssl.train import frozen, option, prepare_torch, require
from ffcv_ssl.train.samples import read_labels
from ffcv_ssl.train.views import delivered

MOST_CLASSES = 20  # that the legend names


@dataclass(frozen=True)
class MapConfig:
    """What is drawn."""

    out: LocalPath = option("the picture to write, .png, .pdf or .svg", "map.png")
    what: Literal["embeddings", "features"] = option(
        "output of the projector, or of the backbone", "embeddings"
    )
    samples: int = option("validation images, drawn with the seed, >= 4", 2000)
    perplexity: float = option(
        "neighbours that t-SNE keeps close, > 1 and less than the number of images", 30.0
    )
    seed: int = option("of the choice of images and of t-SNE, >= 0", 0)
    device: str = option("auto, cpu, cuda or cuda:N", "auto")

    def __post_init__(self):
        require(self.samples >= 4, f"samples is at least 4, got {self.samples}.")
        require(self.perplexity > 1, f"perplexity is above 1, got {self.perplexity}.")
        require(self.seed >= 0, f"seed is at least 0, got {self.seed}.")
        require(
            Path(self.out).suffix in (".png", ".pdf", ".svg"),
            f"out is the name of a .png, .pdf or .svg file, got '{self.out}'.",
        )


def encode(trained: Trained, config: MapConfig) -> tuple[np.ndarray, np.ndarray, dict[int, str]]:
    """(N, D) float32 embeddings or features of validation images, their (N,) labels, and the name of each label."""
    c = trained.configs
    require(
        bool(c.data.val),
        f"{trained.folder}: names no validation file; give data.train and data.val.",
    )
    device, precision = prepare_torch(replace(c.train, device=config.device, precision="auto"))
    method = trained.method.to(device)
    with Reader(c.data.val) as reader:
        chosen = np.sort(
            np.random.default_rng(config.seed).permutation(reader.num_samples)[: config.samples]
        )
        names = label_names(reader.class_names, read_labels(reader, c.data.label)[chosen])
    pipeline = delivered(c.view.whole(), device)
    options = {
        "indices": chosen,
        "drop_last": False,
        "order": OrderOption.SEQUENTIAL,
        "seed": 0,
        "num_workers": c.data.workers,
    }

    def encoder(images: torch.Tensor) -> torch.Tensor:
        features = method.features(images)
        return method.projector(features) if config.what == "embeddings" else features

    with (
        Loader(c.data.val, batch_size=250, pipelines={c.data.image: pipeline}, **options) as loader,
        frozen(method),
    ):
        values, labels = extract_features(encoder, loader, c.data.label, device, precision)
    return values.cpu().numpy(), labels.cpu().numpy(), names


def label_names(class_names: Sequence[str] | None, labels: np.ndarray) -> dict[int, str]:
    """The name of each label that occurs; where the file does not know it, the label itself."""
    known = class_names or ()
    return {
        label: known[label] if 0 <= label < len(known) else str(label)
        for label in np.unique(labels).tolist()
    }


def flatten(values: np.ndarray, perplexity: float, seed: int) -> np.ndarray:
    """(N, 2) t-SNE of (N, D) values by cosine distance, as the losses compare them."""
    from sklearn.manifold import TSNE

    require(
        perplexity < len(values),
        f"map.perplexity is less than the number of images, {len(values)}, got {perplexity:g}.",
    )
    return TSNE(
        perplexity=perplexity, metric="cosine", init="random", random_state=seed
    ).fit_transform(values)


def draw(maps: Sequence[tuple[str, np.ndarray, np.ndarray, Mapping[int, str]]], out: str) -> None:
    """Draw (title, (N, 2) points, (N,) labels, names of labels) side by side; a name has one colour."""
    from matplotlib import colormaps
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.5 * len(maps) + 1.5, 4.5), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    classes = list(dict.fromkeys(name for *_, names in maps for name in names.values()))
    palette = colormaps["tab10" if len(classes) <= 10 else "tab20"]
    handles: dict[str, Any] = {}
    for ax, (title, points, labels, names) in zip(
        figure.subplots(1, len(maps), squeeze=False)[0], maps, strict=True
    ):
        for label, name in names.items():
            color = palette(classes.index(name) % palette.N)
            handles[name] = ax.scatter(*points[labels == label].T, s=4, color=color)
        ax.set(title=caption(title), xticks=[], yticks=[], aspect="equal", adjustable="datalim")
    if len(classes) <= MOST_CLASSES:
        figure.legend(
            [handles[name] for name in classes],
            [*map(caption, classes)],
            loc="outside right center",
            markerscale=3,
            fontsize=8,
        )
    figure.savefig(out)


def program(argv: Sequence[str] | None) -> None:
    """Read the arguments, map each run, draw."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    runs = [expanded_path(argument) for argument in arguments if not argument.startswith("-")]
    flags = [
        argument.replace("--out=", "--map.out=", 1)
        for argument in arguments
        if argument.startswith("-")
    ]
    configs = parse(
        "embedding_map RUN [RUN …]",
        {"data": FilesConfig, "map": MapConfig},
        flags,
        (__doc__ or "").partition("\n")[0],
    )
    config = configs["map"]
    if not runs:
        raise ConfigError(
            "give the folder of a run, or several; options are written --section.field=value."
        )
    try:
        import sklearn  # noqa: F401  # before minutes of encoding
    except ImportError as error:
        raise ConfigError("t-SNE needs scikit-learn: pip install 'ffcv_ssl[viz]'.") from error
    maps = []
    for run in runs:
        values, labels, names = encode(open_run(run, configs["data"]), config)
        maps.append(
            (
                Path(run).stem if Path(run).is_file() else Path(run).name,
                flatten(values, config.perplexity, config.seed),
                labels,
                names,
            )
        )
    draw(maps, config.out)
    sys.stdout.write(
        f"{config.out}: {config.what} of {len(maps[0][2])} validation images, {len(maps)} run(s)\n"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program and return its exit status."""
    return exit_status("embedding_map", program, argv)


if __name__ == "__main__":
    sys.exit(main())
