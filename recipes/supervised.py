"""Supervised baseline, which also checks that network, loader and training loop work.

Command    python recipes/supervised.py --config-file recipes/supervised_cifar10.yaml
               --data.train=train.beton --data.val=val.beton
           (`ffcv-ssl train` runs the same program; --help lists every option.)
Hardware   one GPU, or a CPU with recipes/supervised_cpu.yaml
Sources    ResNet-18 with a 3x3 stem, SGD, weight decay 5e-4 and a cosine schedule: the usual
           CIFAR-10 recipe, which reaches 94 to 95 % with padded crops. Here crops are random and
           resized.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ffcv_ssl.cli.recipe import run_recipe
from ffcv_ssl.evaluate import Evaluation, share_right
from ffcv_ssl.recipe import Configs, Recipe
from ffcv_ssl.ssl import Method, Supervised
from ffcv_ssl.train import build_backbone, build_normalize, option


@dataclass(frozen=True)
class LossConfig:
    """The classifier and its loss."""

    classes: int = option("Number of classes, at least that of the training file", 10)
    label_smoothing: float = option(
        "Probability mass of the target that is spread evenly over all classes, in [0, 1)", 0.0
    )


def method(c: Configs) -> Supervised:
    """Build the network and its loss from the configuration."""
    backbone = build_backbone(c.model)
    normalize = build_normalize(c.model)
    return Supervised(
        backbone, backbone.num_features, c.loss.classes, normalize, c.loss.label_smoothing
    )


def accuracy(trained: Method, c: Configs, device: torch.device, precision: str) -> dict[str, float]:
    """Return the accuracy of the trained classifier on the validation images, 0 to 1."""
    assert isinstance(trained, Supervised)
    with Evaluation(c.data, c.eval, c.view.whole(), device, precision) as evaluation:
        if not evaluation.loaders:
            return {}
        found = evaluation.predictions(trained.classify)
    return {"accuracy": share_right(found.val, found.val_labels)}


RECIPE = Recipe(
    "supervised", "Train a classifier with labels.", method, LossConfig, more_scores=accuracy
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program with these arguments and return its exit status."""
    return run_recipe(RECIPE, argv)


if __name__ == "__main__":
    sys.exit(main())
