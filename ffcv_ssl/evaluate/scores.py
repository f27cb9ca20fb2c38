"""Labels, online probes and scores of a run in progress."""

from collections.abc import Callable

from ffcv_ssl.evaluate.configs import Configs
from ffcv_ssl.evaluate.encoding import Features
from ffcv_ssl.evaluate.features import Evaluation
from ffcv_ssl.ssl import Method, OnlineProbes
from ffcv_ssl.ssl.probes.memory import check_memory, classifier_bytes
from ffcv_ssl.train.classes import Classes
from ffcv_ssl.train.config import require
from ffcv_ssl.train.distributed import rank_batch_size
from ffcv_ssl.train.network import num_features


def needs_labels(c: Configs, method: Method) -> bool:
    """Return whether the training needs labels: for the method, or for online probes."""
    return method.uses_labels or c.probe.linear or c.probe.mlp


def build_probes(c: Configs, method: Method, classes: Classes | None) -> OnlineProbes | None:
    """Build the online probes of a run, and check the number of classes.

    Parameters
    ----------
    c
        Configuration of the run.
    method
        Method whose features the probes use.
    classes
        Classes of the training file. None if the training needs no labels.

    Returns
    -------
    OnlineProbes | None
        Probes on the device of the method, or None if the configuration asks for none.

    Raises
    ------
    ConfigError
        If a method with labels has fewer classes than the training file, or a classifier needs too
        much memory.
    """
    if classes is None:
        return None
    num_classes, num_views = len(classes), rank_batch_size(c.train) * c.view.num_views
    if method.uses_labels:
        known = getattr(c.loss, "classes", num_classes)
        require(
            num_classes <= known,
            f"loss.classes={known}: {c.data.train} has {num_classes} classes; give {num_classes}.",
        )
        needed = classifier_bytes(num_views, [num_features(method.backbone), known])
        check_memory("the classifier", needed, known, "Give another data.label.")
    probe = c.probe
    if not (probe.linear or probe.mlp):
        return None
    return OnlineProbes(
        method,
        num_classes,
        probe.linear,
        probe.mlp,
        probe.layers,
        probe.lr,
        probe.hidden,
        c.train.seed,
        num_views,
    )


def score(
    evaluation: Evaluation,
    method: Method,
    probes: OnlineProbes | None,
    score_features: Callable[[Features], dict[str, float]],
) -> dict[str, float]:
    """Encode both files once, and score the features and the online probes.

    Parameters
    ----------
    evaluation
        Open evaluation. Without a validation file, there are no scores.
    method
        Frozen method.
    probes
        Online probes of the method, or None.
    score_features
        Function that scores the features of the backbone: `evaluation.quick` or `evaluation.full`.

    Returns
    -------
    dict
        Scores of the features, and the accuracy of each probe on the validation file, in 0..1.
    """
    if not evaluation.loaders:
        return {}
    if probes is None:
        return score_features(evaluation.features(method.features))
    found = evaluation.features(probes.encode)
    width = found.val.shape[1] - len(probes.classifiers)
    correct = found.val[:, width:] == found.val_labels[:, None]
    fractions = (correct.sum(dim=0).double() / len(correct)).tolist()
    accuracies = dict(zip(probes.classifiers, fractions, strict=True))
    features = found._replace(train=found.train[:, :width], val=found.val[:, :width])
    return score_features(features) | accuracies
