"""Barlow Twins for any number of views: make the cross-correlation of views the identity.

Command    python recipes/barlow_twins.py --config-file recipes/barlow_multi_cifar10.yaml
               --data.train=train.beton --data.val=val.beton
           (`ffcv-ssl train` runs the same program; --help lists every option.)
Hardware   one GPU, or a CPU with recipes/barlow_twins_cpu.yaml
Sources    arXiv 2103.03230. Several views and small projectors: arXiv 2312.10725 and its code,
           github.com/kumarkrishna/fastssl.
Deviations Unlike in that code, the hidden layers of the projector have a bias (which batch
           normalization cancels) and the last layer has none. Features are standardized with the
           biased variance, as in the code of Barlow Twins.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from ffcv_ssl.cli.recipe import run_recipe
from ffcv_ssl.pipeline.augmentation import BYOL_VIEWS
from ffcv_ssl.recipe import Configs, Recipe
from ffcv_ssl.ssl import BarlowTwins, simclr_projector
from ffcv_ssl.train import build_backbone, build_normalize, option, views_of


@dataclass(frozen=True)
class LossConfig:
    """The projector and the loss."""

    off_weight: float | None = option(
        "Weight of the off-diagonal term; none uses 5 / `loss.out`, the rule for small projectors",
        None,
    )
    unit_length: bool = option(
        "Normalize embeddings to unit length before standardizing them, as arXiv 2312.10725 does",
        True,
    )
    per_view: bool = option("Standardize each view separately, as arXiv 2103.03230 does", False)
    layers: int = option("Number of linear layers of the projector, >= 1", 2)
    hidden: int = option("Width of the hidden layers of the projector", 256)
    out: int = option("Length of the embeddings", 256)


def method(c: Configs) -> BarlowTwins:
    """Build the network and its loss from the configuration."""
    backbone = build_backbone(c.model)
    projector = simclr_projector(backbone.num_features, c.loss.hidden, c.loss.out, c.loss.layers)
    return BarlowTwins(
        backbone,
        projector,
        build_normalize(c.model),
        c.loss.off_weight,
        c.loss.unit_length,
        c.loss.per_view,
    )


RECIPE = Recipe(
    "barlow_twins",
    "Train Barlow Twins and evaluate its features.",
    method,
    LossConfig,
    views_of(BYOL_VIEWS),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program with these arguments and return its exit status."""
    return run_recipe(RECIPE, argv)


if __name__ == "__main__":
    sys.exit(main())
