"""Instance-level SimCLR: noisy copies of a patch against the other patches of its image.

Command    python recipes/simclr_instance.py --config-file simclr_instance_cifar10 --data.train=train.beton --data.val=val.beton
           (`ffcv-ssl train` runs the same program; --help lists every option.)
Hardware   one GPU, or a CPU with recipes/simclr_instance_cpu.yaml
Sources    the question of arXiv 2303.01986 whether SimCLR learns from one image at a time; no released code, so the numbers of patches and
           of noise are this project's.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from ffcv_ssl.cli.recipe import run_recipe
from ffcv_ssl.recipe import Configs, Recipe
from ffcv_ssl.ssl import InstanceSimCLR, simclr_projector
from ffcv_ssl.train import build_backbone, build_normalize, option


@dataclass(frozen=True)
class LossConfig:
    """The projector, the noise and the loss."""

    temperature: float = option("of the softmax over cosines, > 0", 0.2)
    noise: float = option("standard deviation of the noise that makes positives, grey levels of 0..255, > 0", 16.0)
    layers: int = option("linear layers of the projector, >= 1", 2)
    hidden: int = option("width of its hidden layers", 1024)
    out: int = option("length of the embeddings", 128)


def method(c: Configs) -> InstanceSimCLR:
    """The network and its loss."""
    backbone = build_backbone(c.model)
    projector = simclr_projector(backbone.num_features, c.loss.hidden, c.loss.out, c.loss.layers)
    return InstanceSimCLR(backbone, projector, build_normalize(c.model), c.loss.temperature, c.loss.noise)


RECIPE = Recipe("simclr_instance", "Train instance-level SimCLR and evaluate its features.", method, LossConfig)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program and return its exit status."""
    return run_recipe(RECIPE, argv)


if __name__ == "__main__":
    sys.exit(main())
