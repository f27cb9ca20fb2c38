"""Draw a t-SNE map of the embeddings of validation images, for several runs side by side.

Command    python recipes/embedding_map.py RUN RUN … --out=map.png
           RUN is the folder of a run or an exported backbone.safetensors; --help lists the options.
Needs      scikit-learn: pip install 'ffcv_ssl[viz]'
Sources    t-SNE: van der Maaten and Hinton, JMLR 9 (2008). The sizes of clusters and the distances
           between them have no meaning.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

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

MAX_CLASSES = 20  # largest number of classes with a legend


@dataclass(frozen=True)
class MapConfig:
    """The map to draw."""

    out: LocalPath = option("Path of the picture, .png, .pdf or .svg", "map.png")
    what: Literal["embeddings", "features"] = option(
        "Values to map: embeddings, the output of the projector, or features, the output of the "
        "backbone",
        "embeddings",
    )
    samples: int = option("Number of validation images, >= 4", 2000)
    perplexity: float = option(
        "Perplexity of t-SNE, the effective number of neighbors; > 1 and less than the number of "
        "images",
        30.0,
    )
    seed: int = option("Seed that selects the images and initializes t-SNE, >= 0", 0)
    device: str = option("Device: auto, cpu, cuda or cuda:N", "auto")

    def __post_init__(self) -> None:
        require(self.samples >= 4, f"samples is at least 4, got {self.samples}.")
        require(self.perplexity > 1, f"perplexity is above 1, got {self.perplexity}.")
        require(self.seed >= 0, f"seed is at least 0, got {self.seed}.")
        require(
            Path(self.out).suffix in (".png", ".pdf", ".svg"),
            f"out is the name of a .png, .pdf or .svg file, got '{self.out}'.",
        )


def encode(
    trained: Trained, config: MapConfig
) -> tuple[NDArray[np.float32], NDArray[np.int64], dict[int, str]]:
    """Compute the embeddings or features of validation images.

    Parameters
    ----------
    trained
        Network, configuration and files.
    config
        Values to compute, number of images and seed.

    Returns
    -------
    values
        (N, D) embeddings or features.
    labels
        (N,) labels.
    names
        Label → name.

    Raises
    ------
    ConfigError
        If there is no validation file.
    """
    c = trained.configs
    require(
        bool(c.data.val),
        f"{trained.folder}: the run has no validation file; give data.train and data.val.",
    )
    device, precision = prepare_torch(replace(c.train, device=config.device, precision="auto"))
    method = trained.method.to(device)
    with Reader(c.data.val) as reader:
        order = np.random.default_rng(config.seed).permutation(reader.num_samples)
        chosen = np.sort(order[: config.samples])
        names = label_names(reader.class_names, read_labels(reader, c.data.label)[chosen])
    pipeline = delivered(c.view.whole(), device)
    options: dict[str, Any] = {
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


def label_names(class_names: Sequence[str] | None, labels: NDArray[np.int64]) -> dict[int, str]:
    """Return the name of each label that occurs.

    Parameters
    ----------
    class_names
        Names in the order of the labels. None if they are unknown.
    labels
        (N,) labels, >= 0 or negative for "no class".

    Returns
    -------
    dict
        Label → name; the label itself as text if it has no name.
    """
    known = class_names or ()
    return {
        label: known[label] if 0 <= label < len(known) else str(label)
        for label in np.unique(labels).tolist()
    }


def flatten(values: NDArray[np.float32], perplexity: float, seed: int) -> NDArray[np.float32]:
    """Compute a t-SNE map by cosine distance, the distance of the losses.

    Parameters
    ----------
    values
        (N, D) embeddings or features.
    perplexity
        Effective number of neighbors, > 1.
    seed
        Seed that initializes t-SNE, >= 0.

    Returns
    -------
    ndarray
        (N, 2) positions.

    Raises
    ------
    ConfigError
        If the perplexity is not less than N.
    """
    from sklearn.manifold import TSNE

    require(
        perplexity < len(values),
        f"map.perplexity is less than the number of images, {len(values)}, got {perplexity:g}.",
    )
    tsne = TSNE(perplexity=perplexity, metric="cosine", init="random", random_state=seed)
    positions: NDArray[np.float32] = tsne.fit_transform(values)
    return positions


def draw(
    maps: Sequence[tuple[str, NDArray[np.float32], NDArray[np.int64], Mapping[int, str]]], out: str
) -> None:
    """Draw maps side by side, with one color per class name.

    Parameters
    ----------
    maps
        For each map its title, (N, 2) positions, (N,) labels, and label → name.
    out
        Path of the picture.
    """
    from matplotlib import colormaps
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.5 * len(maps) + 1.5, 4.5), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    classes = list(dict.fromkeys(name for *_, names in maps for name in names.values()))
    palette = colormaps["tab10" if len(classes) <= 10 else "tab20"]
    handles: dict[str, Any] = {}
    axes = figure.subplots(1, len(maps), squeeze=False)[0]
    for ax, (title, points, labels, names) in zip(axes, maps, strict=True):
        for label, name in names.items():
            color = palette(classes.index(name) % palette.N)
            handles[name] = ax.scatter(*points[labels == label].T, s=4, color=color)
        ax.set(title=caption(title), xticks=[], yticks=[], aspect="equal", adjustable="datalim")
    if len(classes) <= MAX_CLASSES:
        figure.legend(
            [handles[name] for name in classes],
            [*map(caption, classes)],
            loc="outside right center",
            markerscale=3,
            fontsize=8,
        )
    figure.savefig(out)


def program(argv: Sequence[str] | None) -> None:
    """Draw the map that the arguments describe; let errors propagate."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    runs = [expanded_path(argument) for argument in arguments if not argument.startswith("-")]
    flags = [
        argument.replace("--out=", "--map.out=", 1)
        for argument in arguments
        if argument.startswith("-")
    ]
    sections = {"data": FilesConfig, "map": MapConfig}
    description = (__doc__ or "").partition("\n")[0]
    configs = parse("embedding_map RUN [RUN …]", sections, flags, description)
    config = configs["map"]
    if not runs:
        raise ConfigError(
            "give the folder of a run, or several; options are written --section.field=value."
        )
    try:
        import sklearn  # noqa: F401  # fail before minutes of encoding
    except ImportError as error:
        raise ConfigError("t-SNE needs scikit-learn: pip install 'ffcv_ssl[viz]'.") from error
    maps = []
    for run in runs:
        values, labels, names = encode(open_run(run, configs["data"]), config)
        title = Path(run).stem if Path(run).is_file() else Path(run).name
        positions = flatten(values, config.perplexity, config.seed)
        maps.append((title, positions, labels, names))
    draw(maps, config.out)
    num_images = len(maps[0][2])
    sys.stdout.write(
        f"{config.out}: {config.what} of {num_images} validation images, {len(maps)} run(s)\n"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program with these arguments and return its exit status."""
    return exit_status("embedding_map", program, argv)


if __name__ == "__main__":
    sys.exit(main())
