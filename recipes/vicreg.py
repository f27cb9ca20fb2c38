"""VICReg for any number of views: keep views close, variances up and features uncorrelated.

Command    python recipes/vicreg.py --config-file recipes/vicreg_multi_cifar10.yaml
               --data.train=train.beton --data.val=val.beton
           (`ffcv-ssl train` runs the same program; --help lists every option.)
Hardware   one GPU, or a CPU with recipes/vicreg_cpu.yaml
Sources    arXiv 2105.04906. Several views and small projectors: arXiv 2312.10725 and its code,
           github.com/kumarkrishna/fastssl.
Deviations Unlike in that code, the hidden layers of the projector have a bias (which batch
           normalization cancels) and the last layer has none. 1e-4 is added to the variance under
           the square root, as in the code of VICReg.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from ffcv_ssl.cli.recipe import run_recipe
from ffcv_ssl.pipeline.augmentation import BYOL_VIEWS
from ffcv_ssl.recipe import Configs, Recipe
from ffcv_ssl.ssl import VICReg, simclr_projector
from ffcv_ssl.train import build_backbone, build_normalize, option, views_of


@dataclass(frozen=True)
class LossConfig:
    """The projector and the loss."""

    invariance: float = option("Weight of the squared distance between views, >= 0", 25.0)
    variance: float = option(
        "Weight of the hinge loss on the standard deviation of each feature, >= 0", 25.0
    )
    covariance: float = option("Weight of the squared covariances between features, >= 0", 1.0)
    layers: int = option("Number of linear layers of the projector, >= 1", 2)
    hidden: int = option("Width of the hidden layers of the projector", 256)
    out: int = option("Length of the embeddings", 256)


def method(c: Configs) -> VICReg:
    """Build the network and its loss from the configuration."""
    backbone = build_backbone(c.model)
    projector = simclr_projector(backbone.num_features, c.loss.hidden, c.loss.out, c.loss.layers)
    weights = c.loss.invariance, c.loss.variance, c.loss.covariance
    return VICReg(backbone, projector, build_normalize(c.model), *weights)


RECIPE = Recipe(
    "vicreg", "Train VICReg and evaluate its features.", method, LossConfig, views_of(BYOL_VIEWS)
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program with these arguments and return its exit status."""
    return run_recipe(RECIPE, argv)


if __name__ == "__main__":
    sys.exit(main())
