"""EMP-SSL: many small patches of each image, pulled to their mean while the batch is spread out.

Command    python recipes/emp_ssl.py --config-file recipes/emp_ssl_cifar10.yaml --data.train=train.beton --data.val=val.beton
           (`ffcv-ssl train` runs the same program; --help lists every option.)
Hardware   one GPU, or a CPU with recipes/emp_ssl_cpu.yaml
Result     GPU: not measured. CPU: kNN 45.0 % after 4 epochs of 10,000 CIFAR-10 images with the narrow network (untrained: 24.8 %)
Sources    arXiv 2304.03977 and the released code, github.com/tsb0601/EMP-SSL; where they differ (projector 4096-4096-1024,
           "representation" = 4096 values after the first projector layer, LARS with clipping and Nesterov) this follows the code.
           Deviations: blur by a true Gaussian instead of Pillow's box filters; bfloat16 network with float32 loss instead of float32;
           batch normalization over all patches of a batch, there per GPU; first convolution initialised as the others (Kaiming, fan out).
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
from ffcv_ssl.ssl import EmpProjector, EmpSSL
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

    num_views: int = option("patches of each image, >= 2; 20 or 200 in the paper", 20)
    patch: int = option("side of a patch in the image, pixels", 16)
    size: int = option("side to which it is resized, pixels", 32)
    image_size: int = option("side of the whole images of the evaluation, pixels", 32)
    eval_ratio: float = option("share of the shorter side that the evaluation's centre crop keeps, in (0, 1]", 1.0)

    def __post_init__(self):
        require(self.num_views >= 2, f"num_views is at least 2, got {self.num_views}.")


@dataclass(frozen=True)
class LossConfig:
    """The projector and the loss."""

    invariance: float = option("weight of the norm of the mean; 200 is balanced for batches of 100", 200.0)
    eps_sq: float = option("squared distortion of the coding rate, > 0", 0.2)
    hidden: int = option("width of the projector's hidden layers, the first of which the bag of patches averages", 4096)
    out: int = option("length of the embeddings", 1024)


@dataclass(frozen=True)
class BagConfig:
    """The paper's evaluation: mean over random patches, in training augmentation, of the projector's first layer."""

    patches: int = option("patches of each image; 128 in the paper, 0: no such evaluation", 0)

    def __post_init__(self):
        require(self.patches >= 0, f"patches is at least 0, got {self.patches}.")


SECTIONS = {
    "data": DataConfig,
    "view": ViewConfig,
    "model": ModelConfig,
    "loss": LossConfig,
    "optim": OptimConfig,
    "train": TrainConfig,
    "eval": EvalConfig,
    "bag": BagConfig,
    "log": LogConfig,
}


def run(configs: Mapping[str, Any]) -> Result:
    """Train and evaluate; `configs` holds an instance for each of `SECTIONS`."""
    c = SimpleNamespace(**configs)
    record = RunRecord("emp_ssl", configs, resume=c.train.resume)
    device, precision = prepare_torch(c.train)

    # Data: uint8 patches, which the loader brings to the GPU and the model normalizes there.
    gpu = device if device.type == "cuda" else None
    patches = partial(views.emp_ssl, patch=c.view.patch, size=c.view.size, device=gpu)
    whole = views.plain(c.view.image_size, ratio=c.view.eval_ratio, device=gpu)
    loader = Loader(
        c.data.train,
        batch_size=c.train.batch_size,
        order=OrderOption.RANDOM,
        seed=c.train.seed,
        pipelines={c.data.image: patches(c.view.num_views)},
        num_workers=c.data.workers,
    )
    with record, loader, Evaluation(c.data, c.eval, whole, device, precision) as evaluation:
        # Model
        backbone = build_backbone(c.model)
        projector = EmpProjector(backbone.num_features, c.loss.hidden, c.loss.out)
        method = EmpSSL(backbone, projector, build_normalize(c.model), c.loss.invariance, c.loss.eps_sq, c.model.views_per_forward)
        method.to(device)
        optimizer = build_optimizer(method, c.optim, c.train.batch_size)

        # Loop
        online = partial(evaluation.knn, method.features)
        progress = fit(method, loader, optimizer, c.train, c.optim, record, online, c.eval.times)

        # Evaluation: the frozen backbone on whole images, then the bag of patches
        with frozen(method):
            scores = evaluation.scores(method.features)
            if c.bag.patches:
                bag = Evaluation(c.data, c.eval, patches(c.bag.patches), device, precision, num_views=c.bag.patches, seed=c.train.seed + 1)
                with bag:
                    found = bag.scores(method.patch_features, standardize=False)
                scores |= {f"bag_{name}": value for name, value in found.items()}
        return finish(record, progress, scores, device=device, precision=precision, num_views=c.view.num_views, steps_per_epoch=len(loader))


def program(argv: Sequence[str] | None = None) -> None:
    """Parse, train, print."""
    configs = parse("emp_ssl", SECTIONS, argv, "Train EMP-SSL and evaluate its features.")
    print_config(configs)
    result = run(configs)
    print(result.summary())


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program and return its exit status."""
    return exit_status("emp_ssl", program, argv)


if __name__ == "__main__":
    sys.exit(main())
