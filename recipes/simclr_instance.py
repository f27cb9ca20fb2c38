"""Instance-level SimCLR: contrast noisy copies of a patch with the other patches of its image.

Command    python recipes/simclr_instance.py --config-file simclr_instance_cifar10
               --data.train=train.beton --data.val=val.beton
           (`ffcv-ssl train` runs the same program; --help lists every option.)
Hardware   one GPU, or a CPU with recipes/simclr_instance_cpu.yaml
Sources    arXiv 2303.01986, which asks whether SimCLR can learn from one image at a time. There is
           no released code, so the number of patches and the noise were chosen here.
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

    temperature: float = option("Temperature of the softmax over cosine similarities, > 0", 0.2)
    noise: float = option(
        "Standard deviation of the noise that is added to a patch, in gray levels (0 to 255), > 0",
        16.0,
    )
    layers: int = option("Number of linear layers of the projector, >= 1", 2)
    hidden: int = option("Width of the hidden layers of the projector", 1024)
    out: int = option("Length of the embeddings", 128)


def method(c: Configs) -> InstanceSimCLR:
    """Build the network and its loss from the configuration."""
    backbone = build_backbone(c.model)
    projector = simclr_projector(backbone.num_features, c.loss.hidden, c.loss.out, c.loss.layers)
    return InstanceSimCLR(
        backbone, projector, build_normalize(c.model), c.loss.temperature, c.loss.noise
    )


RECIPE = Recipe(
    "simclr_instance", "Train instance-level SimCLR and evaluate its features.", method, LossConfig
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program with these arguments and return its exit status."""
    return run_recipe(RECIPE, argv)


if __name__ == "__main__":
    sys.exit(main())
