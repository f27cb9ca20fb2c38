"""What is measured while a run goes on: labels for those who need them, online probes, and when an accuracy was reached."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ffcv_ssl.evaluate.features import Evaluation, Features
from ffcv_ssl.ssl import Method, OnlineProbes
from ffcv_ssl.ssl.probes.memory import check_memory, classifier_bytes
from ffcv_ssl.train.classes import Classes
from ffcv_ssl.train.config import option, require
from ffcv_ssl.train.distributed import rank_batch_size


@dataclass(frozen=True)
class OnlineProbeConfig:
    """Classifiers that learn beside the method, from detached features of its own forward pass, and never change it."""

    linear: bool = option("train a linear classifier", False)
    mlp: bool = option("train an MLP with one hidden layer", False)
    layers: bool = option("also a linear one on the output of every layer of the projector, after its ReLU where it has one", False)
    lr: float = option("learning rate of AdamW, constant, > 0", 1e-4)
    hidden: int = option("width of the MLP's hidden layer, >= 1", 2048)

    def __post_init__(self):
        require(not self.layers or self.linear, "layers: the projector's layers get linear classifiers; give probe.linear=1 too.")
        require(self.lr > 0, f"lr must be positive, got {self.lr}.")
        require(self.hidden >= 1, f"hidden is at least 1, got {self.hidden}.")


def needs_labels(c: Any, method: Method) -> bool:
    """Whether the training itself needs labels: for the method, or for probes beside it."""
    return method.uses_labels or c.probe.linear or c.probe.mlp


def build_probes(c: Any, method: Method, classes: Classes | None) -> OnlineProbes | None:
    """The probes that a recipe's configuration asks for, on the method's device, or None; checks the classes for all who need them.

    Parameters
    ----------
    c
        The configuration.
    method
        What they watch.
    classes
        Of the training file; None where nothing `needs_labels`.

    Raises
    ------
    ConfigError
        If a method with labels has fewer classes than the training file, or a classifier needs too much memory.
    """
    if classes is None:
        return None
    num_classes, views = len(classes), rank_batch_size(c.train) * c.view.num_views
    if method.uses_labels:
        known = getattr(c.loss, "classes", num_classes)
        require(num_classes <= known, f"loss.classes={known}: {c.data.train} has {num_classes} classes; give {num_classes}.")
        needed = classifier_bytes(views, [method.backbone.num_features, known])  # type: ignore[list-item]
        check_memory("the classifier", needed, known, "Give another data.label.")
    if not (c.probe.linear or c.probe.mlp):
        return None
    return OnlineProbes(method, num_classes, c.probe.linear, c.probe.mlp, c.probe.layers, c.probe.lr, c.probe.hidden, c.train.seed, views)


def score(
    evaluation: Evaluation, method: Method, probes: OnlineProbes | None, judge: Callable[[Features], dict[str, float]]
) -> dict[str, float]:
    """Encode both files once, and return the scores of the features and the accuracy of every probe on the validation file.

    Parameters
    ----------
    evaluation
        Without validation file it measures nothing.
    method
        Frozen.
    probes
        Its probes, or None.
    judge
        Scores of the backbone's features: `evaluation.quick` or `evaluation.full`.
    """
    if not evaluation.loaders:
        return {}
    if probes is None:
        return judge(evaluation.features(method.features))
    found = evaluation.features(probes.encode)
    num_features = found.val.shape[1] - len(probes.classifiers)
    right = found.val[:, num_features:] == found.val_labels[:, None]
    accuracies = dict(zip(probes.classifiers, (right.sum(dim=0).double() / len(right)).tolist(), strict=True))
    return judge(found._replace(train=found.train[:, :num_features], val=found.val[:, :num_features])) | accuracies
