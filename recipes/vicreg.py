"""VICReg for any number of views: keep views close, every feature's variance up, and features uncorrelated.

Command    python recipes/vicreg.py --config-file recipes/vicreg_multi_cifar10.yaml --data.train=train.beton --data.val=val.beton
           (`ffcv-ssl train` runs the same program; --help lists every option.)
Hardware   one GPU, or a CPU with recipes/vicreg_cpu.yaml
Sources    arXiv 2105.04906; several views and small projectors: arXiv 2312.10725 and its code, github.com/kumarkrishna/fastssl.
           Deviations from that code: hidden layers of the projector have a bias (which batch normalization cancels), the last has none;
           1e-4 under the root of the variance, as in VICReg's own code.
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

    invariance: float = option("weight of the distance between views, >= 0", 25.0)
    variance: float = option("weight of the hinge on each feature's deviation, >= 0", 25.0)
    covariance: float = option("weight of the covariances between features, >= 0", 1.0)
    layers: int = option("linear layers of the projector, >= 1", 2)
    hidden: int = option("width of its hidden layers", 256)
    out: int = option("length of the embeddings", 256)


def method(c: Configs) -> VICReg:
    """The network and its loss."""
    backbone = build_backbone(c.model)
    projector = simclr_projector(backbone.num_features, c.loss.hidden, c.loss.out, c.loss.layers)
    weights = c.loss.invariance, c.loss.variance, c.loss.covariance
    return VICReg(backbone, projector, build_normalize(c.model), *weights)


RECIPE = Recipe("vicreg", "Train VICReg and evaluate its features.", method, LossConfig, views_of(BYOL_VIEWS))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program and return its exit status."""
    return run_recipe(RECIPE, argv)


if __name__ == "__main__":
    sys.exit(main())
