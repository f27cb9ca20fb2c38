"""EMP-SSL: many small patches of each image, pulled to their mean while the batch is spread out.

Command    python recipes/emp_ssl.py --config-file recipes/emp_ssl_cifar10.yaml --data.train=train.beton --data.val=val.beton
           (`ffcv-ssl train` runs the same program; --help lists every option.)
Hardware   one GPU, or a CPU with recipes/emp_ssl_cpu.yaml
Sources    arXiv 2304.03977 and the released code, github.com/tsb0601/EMP-SSL; where they differ (projector 4096-4096-1024,
           "representation" = 4096 values after the first projector layer, LARS with clipping and Nesterov) this follows the code.
           Deviations: blur by a true Gaussian instead of Pillow's box filters; bfloat16 network with float32 loss instead of float32;
           batch normalization over all patches of a batch, there per GPU; first convolution initialised as the others (Kaiming, fan out).
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ffcv_ssl import views
from ffcv_ssl.cli.recipe import run_recipe
from ffcv_ssl.evaluate import bag_encoder, open_views
from ffcv_ssl.recipe import Configs, Recipe
from ffcv_ssl.ssl import EmpProjector, EmpSSL
from ffcv_ssl.train import Views, build_backbone, build_normalize, option, require


@dataclass(frozen=True)
class ViewConfig(Views):
    """What the network sees: patches of the image, augmented as in the released code."""

    num_views: int = option("patches of each image, >= 2; 20 or 200 in the paper", 20)
    patch: float = option("side of a patch in the image, pixels; below 1: its share of the image's area", 16.0)
    size: int = option("side to which it is resized, pixels", 32)
    image_size: int | None = option("side of the whole images of the evaluation, pixels; none: as the patches", 32)

    def __post_init__(self):
        super().__post_init__()
        require(self.num_views >= 2, f"num_views is at least 2, got {self.num_views}.")
        is_valid = 0 < self.patch < 1 or self.patch == int(self.patch) >= 1
        require(is_valid, f"patch is a whole number of pixels, or below 1 a share, got {self.patch}.")

    def pipeline(self, size: int, num_views: int) -> list[Any]:
        """The transforms of a patch."""
        return views.emp_ssl(size, n=num_views, patch=self.patch if self.patch < 1 else int(self.patch))


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


def method(c: Configs) -> EmpSSL:
    """The network and its loss."""
    backbone = build_backbone(c.model)
    projector = EmpProjector(backbone.num_features, c.loss.hidden, c.loss.out)
    return EmpSSL(backbone, projector, build_normalize(c.model), c.loss.invariance, c.loss.eps_sq)


def bag_scores(trained: EmpSSL, c: Configs, device: torch.device, precision: str) -> dict[str, float]:
    """Scores of the bag of patches, as bag_knn, bag_linear, …: the protocol emp_paper of `ffcv-ssl probe`."""
    if not c.bag.patches:
        return {}
    with open_views(c, c.eval, "training", c.bag.patches, device, precision) as bag:
        found = bag.scores(bag_encoder(trained), standardize=False)
    return {f"bag_{name}": value for name, value in found.items()}


RECIPE = Recipe(
    "emp_ssl",
    "Train EMP-SSL and evaluate its features.",
    method,
    LossConfig,
    ViewConfig,
    more={"bag": BagConfig},
    more_scores=bag_scores,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program and return its exit status."""
    return run_recipe(RECIPE, argv)


if __name__ == "__main__":
    sys.exit(main())
