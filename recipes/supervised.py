"""Supervised training: the yardstick, and the check that network, loader and loop are sound.

Command    python recipes/supervised.py --config-file recipes/supervised_cifar10.yaml --data.train=train.beton --data.val=val.beton
           (`ffcv-ssl train` runs the same program; --help lists every option.)
Hardware   one GPU, or a CPU with recipes/supervised_cpu.yaml
Sources    ResNet-18 with a 3x3 stem, SGD, weight decay 5e-4 and a cosine: the usual CIFAR-10 recipe, which is known to reach 94 to 95 %
           with padded crops; here crops are random and resized.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ffcv_ssl.cli.recipe import run_recipe
from ffcv_ssl.evaluate import Evaluation, share_right
from ffcv_ssl.recipe import Configs, Recipe
from ffcv_ssl.ssl import Supervised
from ffcv_ssl.train import build_backbone, build_normalize, option


@dataclass(frozen=True)
class LossConfig:
    """The classifier and its loss."""

    classes: int = option("number of classes, at least as many as occur in the training file", 10)
    label_smoothing: float = option("share of the target that is spread over all classes, in [0, 1)", 0.0)


def method(c: Configs) -> Supervised:
    """The network and its loss."""
    backbone = build_backbone(c.model)
    normalize = build_normalize(c.model)
    return Supervised(backbone, backbone.num_features, c.loss.classes, normalize, c.loss.label_smoothing)


def accuracy(trained: Supervised, c: Configs, device: torch.device, precision: str) -> dict[str, float]:
    """Share of the validation images that the classifier itself gets right."""
    with Evaluation(c.data, c.eval, c.view.whole(), device, precision) as evaluation:
        if not evaluation.loaders:
            return {}
        found = evaluation.predictions(trained.classify)
    return {"accuracy": share_right(found.val, found.val_labels)}


RECIPE = Recipe("supervised", "Train a classifier with labels.", method, LossConfig, more_scores=accuracy)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program and return its exit status."""
    return run_recipe(RECIPE, argv)


if __name__ == "__main__":
    sys.exit(main())
