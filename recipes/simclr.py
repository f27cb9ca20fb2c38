"""SimCLR: two strongly augmented views of each image, told apart from all others.

Command    python recipes/simclr.py --config-file recipes/simclr_cifar10.yaml --data.train=train.beton --data.val=val.beton
           (`ffcv-ssl train` runs the same program; --help lists every option.)
Hardware   one GPU, or a CPU with recipes/simclr_cpu.yaml
Result     GPU: not measured. CPU: kNN 47.3 % after 20 epochs of 10,000 CIFAR-10 images with the narrow network (untrained: 24.8 %)
Sources    arXiv 2002.05709. simclr_cifar10.yaml follows github.com/dkobak/simclr-cifar10, whose kNN after 100 epochs is 83.2 %.
           Here the cosine falls per step, there per epoch.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any

from ffcv_ssl import views
from ffcv_ssl.cli.config import parse, print_config
from ffcv_ssl.cli.status import exit_status
from ffcv_ssl.loader import Loader, OrderOption
from ffcv_ssl.ssl import SimCLR, simclr_projector
from ffcv_ssl.train import (
    DataConfig,
    EvalConfig,
    Evaluation,
    LogConfig,
    ModelConfig,
    OptimConfig,
    Result,
    RunRecord,
    TrainConfig,
    build_backbone,
    build_normalize,
    build_optimizer,
    finish,
    fit,
    frozen,
    option,
    prepare_torch,
    require,
)


@dataclass(frozen=True)
class ViewConfig:
    """What the network sees."""

    size: int = option("side of a view in pixels", 32)
    num_views: int = option("views of each image, >= 2", 2)
    min_scale: float = option("smallest share of the image's area that a crop covers, in (0, 1]", 0.08)
    strength: float = option("factor of the colour jitter .8 .8 .8 .2, >= 0; .5 is usual for 32x32 images", 0.5)
    gray: float = option("probability of grey, 0..1", 0.2)
    blur: float = option("probability of blur, 0..1", 0.0)
    eval_ratio: float = option("share of the shorter side that the evaluation's centre crop keeps, in (0, 1]", 1.0)

    def __post_init__(self):
        require(self.num_views >= 2, f"num_views is at least 2, got {self.num_views}.")


@dataclass(frozen=True)
class LossConfig:
    """The projector and the loss."""

    temperature: float = option("of the softmax over cosines, > 0", 0.5)
    layers: int = option("linear layers of the projector, >= 1", 2)
    hidden: int = option("width of its hidden layers", 1024)
    out: int = option("length of the embeddings", 128)
    batch_norm: bool = option("batch normalization in the projector", False)


SECTIONS = {
    "data": DataConfig,
    "view": ViewConfig,
    "model": ModelConfig,
    "loss": LossConfig,
    "optim": OptimConfig,
    "train": TrainConfig,
    "eval": EvalConfig,
    "log": LogConfig,
}


def run(configs: Mapping[str, Any]) -> Result:
    """Train and evaluate; `configs` holds an instance for each of `SECTIONS`."""
    c = SimpleNamespace(**configs)
    record = RunRecord("simclr", configs, resume=c.train.resume)
    device, precision = prepare_torch(c.train)

    # Data: uint8 views, which the loader brings to the GPU and the model normalizes there.
    gpu = device if device.type == "cuda" else None
    augmented = views.simclr(
        c.view.size,
        n=c.view.num_views,
        strength=c.view.strength,
        scale=(c.view.min_scale, 1.0),
        gray=c.view.gray,
        blur=c.view.blur,
        device=gpu,
    )
    whole = views.plain(c.view.size, ratio=c.view.eval_ratio, device=gpu)
    loader = Loader(
        c.data.train,
        batch_size=c.train.batch_size,
        order=OrderOption.RANDOM,
        seed=c.train.seed,
        pipelines={c.data.image: augmented},
        num_workers=c.data.workers,
    )
    with record, loader, Evaluation(c.data, c.eval, whole, device, precision) as evaluation:
        # Model
        backbone = build_backbone(c.model)
        projector = simclr_projector(backbone.num_features, c.loss.hidden, c.loss.out, c.loss.layers, c.loss.batch_norm)
        method = SimCLR(backbone, projector, build_normalize(c.model), c.loss.temperature, c.model.views_per_forward)
        method.to(device)
        optimizer = build_optimizer(method, c.optim, c.train.batch_size)

        # Loop
        online = partial(evaluation.knn, method.features)
        progress = fit(method, loader, optimizer, c.train, c.optim, record, online, c.eval.times)

        # Evaluation: the frozen backbone on whole images
        with frozen(method):
            scores = evaluation.scores(method.features)
        return finish(record, progress, scores, device=device, precision=precision, num_views=c.view.num_views, steps_per_epoch=len(loader))


def program(argv: Sequence[str] | None = None) -> None:
    """Parse, train, print."""
    configs = parse("simclr", SECTIONS, argv, "Train SimCLR and evaluate its features.")
    print_config(configs)
    result = run(configs)
    print(result.summary())


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program and return its exit status."""
    return exit_status("simclr", program, argv)


if __name__ == "__main__":
    sys.exit(main())
