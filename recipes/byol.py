"""BYOL: predict the output of a moving-average network for one view from another view.

Command    python recipes/byol.py --config-file recipes/byol_cifar10.yaml
               --data.train=train.beton --data.val=val.beton
           (`ffcv-ssl train` runs the same program; --help lists every option.)
Hardware   one GPU, or a CPU with recipes/byol_cpu.yaml
Sources    arXiv 2006.07733 and github.com/google-deepmind/deepmind-research, byol/.
Details    The loss is computed over all ordered pairs of views, which for two views is the
           symmetric sum of the paper. The target network has its own running statistics of batch
           normalization, as in the released code.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from ffcv_ssl.cli.recipe import run_recipe
from ffcv_ssl.pipeline.augmentation import BYOL_VIEWS
from ffcv_ssl.recipe import Configs, Recipe
from ffcv_ssl.ssl import BYOL, byol_predictor, simclr_projector
from ffcv_ssl.train import build_backbone, build_normalize, option, views_of


@dataclass(frozen=True)
class LossConfig:
    """The projector, the predictor and the target network."""

    momentum: float = option(
        "Initial momentum of the target network, in [0, 1]; it rises to 1 during training", 0.99
    )
    layers: int = option("Number of linear layers of the projector, >= 1", 2)
    hidden: int = option("Width of the hidden layers of projector and predictor", 4096)
    out: int = option("Length of the embeddings", 256)


def method(c: Configs) -> BYOL:
    """Build the network and its loss from the configuration."""
    backbone = build_backbone(c.model)
    projector = simclr_projector(backbone.num_features, c.loss.hidden, c.loss.out, c.loss.layers)
    predictor = byol_predictor(c.loss.out, c.loss.hidden)
    return BYOL(backbone, projector, predictor, build_normalize(c.model), c.loss.momentum)


RECIPE = Recipe(
    "byol", "Train BYOL and evaluate its features.", method, LossConfig, views_of(BYOL_VIEWS)
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program with these arguments and return its exit status."""
    return run_recipe(RECIPE, argv)


if __name__ == "__main__":
    sys.exit(main())
