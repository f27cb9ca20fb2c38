"""Typed configuration of a run, as recipes and evaluations receive it."""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from ffcv_ssl.train.config import (
    DataConfig,
    EvalConfig,
    LogConfig,
    ModelConfig,
    OptimConfig,
    TrainConfig,
    at_least,
    option,
    require,
)
from ffcv_ssl.train.views import Views


@dataclass(frozen=True)
class OnlineProbeConfig:
    """Classifiers trained beside the method, on detached features of its own forward pass."""

    linear: bool = option("Train a linear classifier", False)
    mlp: bool = option("Train an MLP with one hidden layer", False)
    layers: bool = option(
        "Train a linear classifier on the output of every projector layer, too (after its ReLU if "
        "it has one); needs probe.linear=1",
        False,
    )
    lr: float = option("Constant learning rate of AdamW, > 0", 1e-4)
    hidden: int = option("Width of the hidden layer of the MLP, >= 1", 2048)

    def __post_init__(self) -> None:
        require(not self.layers or self.linear, "layers needs a linear classifier: probe.linear=1.")
        require(self.lr > 0, f"lr must be positive, got {self.lr}.")
        at_least(self, 1, "hidden")


class Configs(SimpleNamespace):
    """Configuration of a run: one attribute per section.

    The further sections of a recipe (`Recipe.more`) are attributes, too. The configuration of an
    exported backbone (`restore_backbone`) has the sections data, view, model and train only.

    Attributes
    ----------
    data, view, model, optim, train, eval, probe, log
        Sections that all recipes share.
    loss
        Section "loss", the recipe's own dataclass.

    Examples
    --------
    >>> c = Configs(train=TrainConfig(epochs=100, batch_size=256))
    >>> c.train.epochs
    100
    """

    data: DataConfig
    view: Views
    model: ModelConfig
    loss: Any
    optim: OptimConfig
    train: TrainConfig
    eval: EvalConfig
    probe: OnlineProbeConfig
    log: LogConfig
