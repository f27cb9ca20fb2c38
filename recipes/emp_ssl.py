"""EMP-SSL: pull many patches of an image to their mean and spread different images apart.

Command    python recipes/emp_ssl.py --config-file recipes/emp_ssl_cifar10.yaml
               --data.train=train.beton --data.val=val.beton
           (`ffcv-ssl train` runs the same program; --help lists every option.)
Hardware   one GPU, or a CPU with recipes/emp_ssl_cpu.yaml
Sources    arXiv 2304.03977 and the released code, github.com/tsb0601/EMP-SSL. Where they differ,
           this program follows the code: the projector is 4096-4096-1024, the representation is the
           output of the first projector layer, and the optimizer is LARS with clipping and Nesterov
           momentum.
Deviations Blur with a true Gaussian instead of the box filters of Pillow. The network computes in
           bfloat16 and the loss in float32, instead of float32 throughout. Batch normalization over
           all patches of a batch instead of those of one GPU. The first convolution is initialized
           like the others (Kaiming, fan out).
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
from ffcv_ssl.ssl import EmpProjector, EmpSSL, Method
from ffcv_ssl.train import Views, build_backbone, build_normalize, option, require


@dataclass(frozen=True)
class ViewConfig(Views):
    """Patches of the image, augmented as in the released code."""

    num_views: int = option("Number of patches per image, >= 2; the paper uses 20 and 200", 20)
    patch: float = option(
        "Side of a patch in the image, in pixels; a value below 1 is a fraction of the image area",
        16.0,
    )
    size: int = option("Side to which patches are resized, in pixels", 32)
    image_size: int | None = option(
        "Side of the whole images in the evaluation, in pixels; none uses `view.size`", 32
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.num_views >= 2, f"num_views is at least 2, got {self.num_views}.")
        is_valid = 0 < self.patch < 1 or self.patch == int(self.patch) >= 1
        require(
            is_valid,
            f"patch is a whole number of pixels, or an area fraction below 1, got {self.patch}.",
        )

    def pipeline(self, size: int, num_views: int) -> list[Any]:
        """Return the transforms that render the patches.

        Parameters
        ----------
        size
            Side of a rendered patch in pixels.
        num_views
            Number of patches per image.
        """
        patch = self.patch if self.patch < 1 else int(self.patch)
        return views.emp_ssl(size, n=num_views, patch=patch)


@dataclass(frozen=True)
class LossConfig:
    """The projector and the loss."""

    invariance: float = option(
        "Weight of the similarity of the patches to their mean; 200 suits batches of 100",
        200.0,
    )
    eps_sq: float = option("Squared distortion of the coding rate, > 0", 0.2)
    hidden: int = option(
        "Width of the hidden layers of the projector; the bag of patches averages the first one",
        4096,
    )
    out: int = option("Length of the embeddings", 1024)


@dataclass(frozen=True)
class BagConfig:
    """Bag of patches, the evaluation of the paper.

    The representation of an image is the mean of the first projector layer over randomly augmented
    patches.
    """

    patches: int = option(
        "Number of patches per image, 128 in the paper; 0 skips this evaluation", 0
    )

    def __post_init__(self) -> None:
        require(self.patches >= 0, f"patches is at least 0, got {self.patches}.")


def method(c: Configs) -> EmpSSL:
    """Build the network and its loss from the configuration."""
    backbone = build_backbone(c.model)
    projector = EmpProjector(backbone.num_features, c.loss.hidden, c.loss.out)
    return EmpSSL(backbone, projector, build_normalize(c.model), c.loss.invariance, c.loss.eps_sq)


def bag_scores(
    trained: Method, c: Configs, device: torch.device, precision: str
) -> dict[str, float]:
    """Return the scores of the bag of patches: `bag_knn`, `bag_linear`, ...

    This is the protocol `emp_paper` of `ffcv-ssl probe`.
    """
    assert isinstance(trained, EmpSSL)
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
    """Run the program with these arguments and return its exit status."""
    return run_recipe(RECIPE, argv)


if __name__ == "__main__":
    sys.exit(main())
