"""Evaluation of a trained method with published protocols."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch

from ffcv_ssl.evaluate.encoding import Features
from ffcv_ssl.evaluate.examine import examine_files
from ffcv_ssl.evaluate.protocol_views import encode, num_patch_features
from ffcv_ssl.evaluate.protocols import PROTOCOLS
from ffcv_ssl.evaluate.restore import Trained
from ffcv_ssl.evaluate.subsets import few_labels
from ffcv_ssl.ssl import Method, knn_accuracy, linear_probe
from ffcv_ssl.ssl.probes.memory import check_memory, classifier_bytes
from ffcv_ssl.train.classes import Classes
from ffcv_ssl.train.config import EvalConfig, at_least, option, read_unset, require
from ffcv_ssl.train.network import num_features


@dataclass(frozen=True)
class ProbeConfig:
    """Evaluation protocols for frozen features."""

    protocol: str = option(
        f"all, or protocols separated by commas: {', '.join(PROTOCOLS)}", "whole_image,knn_a"
    )
    labels: float = option(
        "Fraction of the training file's labels that classifiers use, in (0, 1]: the same fraction "
        "of each class",
        1.0,
    )
    seed: int = option(
        "Random seed for label selection, classifier weights and sample order, >= 0", 0
    )
    views: int | None = option(
        "Number of random views of each image, >= 2; none: as in the protocol", None
    )
    epochs: int | None = option(
        "Epochs of linear classifiers and MLPs, >= 1; none: as in the protocol", None
    )
    batch_size: int = option("Number of views per forward pass, >= 1", 500)
    device: str = option("Device: auto, cpu, cuda or cuda:N", "auto")
    precision: Literal["auto", "float32", "bfloat16", "float16"] = option(
        "Precision of the network's arithmetic", "auto"
    )

    def __post_init__(self) -> None:
        read_unset(self, views=0, epochs=0)
        for name in self.names if self.protocol != "all" else ():
            known = ", ".join(PROTOCOLS)
            require(name in PROTOCOLS, f"no protocol '{name}'. Protocols: all, {known}.")
        require(0 < self.labels <= 1, f"labels must be in (0, 1], got {self.labels}.")
        at_least(self, 0, "seed")
        at_least(self, 1, "epochs", "batch_size")
        at_least(self, 2, "views")

    @property
    def names(self) -> list[str]:
        """Requested protocols, in the order of `PROTOCOLS`."""
        requested = [name.strip() for name in self.protocol.split(",")]
        if requested == ["all"]:
            return list(PROTOCOLS)
        return sorted(set(requested), key=[*PROTOCOLS, *requested].index)


def probe(
    trained: Trained, config: ProbeConfig, device: torch.device, precision: str
) -> Iterator[dict[str, Any]]:
    """Evaluate a trained method with published protocols.

    The files and the protocols are checked at once; each protocol is evaluated when its entry is
    requested.

    Parameters
    ----------
    trained
        Restored method. `trained.configs.data` names the files, which need labels.
    config
        Protocols and their options.
    device, precision
        Device and precision of the encoding. The method is moved to the device.

    Returns
    -------
    Iterator[dict]
        Entry for each protocol, fit for JSON: the protocol and its options; train, test and best
        (highest of all epochs, selected on the validation file), accuracies in 0..1 or None if the
        classifier has none; seconds of encoding (shared by protocols with the same views) and
        classification.

    Raises
    ------
    ConfigError
        If there is no validation file, the classes of the files do not match (see `match_classes`),
        a protocol needs the views of a training that are not known, or a classifier would need too
        much memory.
    """
    data = trained.configs.data
    require(
        bool(data.train and data.val),
        "give data.train and data.val: a training file for the classifiers, and a validation file "
        "to evaluate them on.",
    )
    if not trained.has_views:
        others = [name for name in config.names if PROTOCOLS[name].views != "whole"]
        require(
            not others,
            "an exported backbone does not contain the views of its training, which the protocols "
            f"{', '.join(others)} need: give the folder of the run.",
        )
    classes = examine_files(data, trained.trained_on)
    for name in config.names:
        _check_memory(name, trained.method, len(classes))
    return _entries(trained, config, device, precision, classes)


def _check_memory(name: str, method: Method, num_classes: int) -> None:
    """Raise ConfigError if the classifier of a protocol needs too much memory."""
    protocol = PROTOCOLS[name]
    if protocol.classifier == "linear":
        width = num_patch_features(method) if protocol.is_bag else num_features(method.backbone)
        hidden = [protocol.options["hidden"]] if protocol.options.get("hidden") else []
        needed = classifier_bytes(protocol.options["batch_size"], [width, *hidden, num_classes])
        subject = f"the classifier of the protocol {name}"
        check_memory(subject, needed, num_classes, "knn_a works for any number of classes.")


def _entries(
    trained: Trained, config: ProbeConfig, device: torch.device, precision: str, classes: Classes
) -> Iterator[dict[str, Any]]:
    """Evaluate each protocol, and yield its entry."""
    c, data, method = trained.configs, trained.configs.data, trained.method.to(device)
    evaluation = EvalConfig(batch_size=config.batch_size)
    encoded: tuple[tuple[str, int], Features, float] | None = None
    for name in config.names:
        protocol = PROTOCOLS[name]
        num_views = protocol.num_views
        if config.views and protocol.views in ("training", "clean", "mixed"):
            num_views = config.views
        key = protocol.views, num_views
        if encoded is None or encoded[0] != key:
            begun_at = time.perf_counter()
            features = encode(method, c, evaluation, *key, device, precision)
            encoded = key, features, time.perf_counter() - begun_at
        features = few_labels(encoded[1], config.labels, config.seed)
        options = dict(protocol.options)
        if config.epochs and protocol.classifier == "linear":
            options["epochs"] = config.epochs
        begun_at = time.perf_counter()
        accuracies = classify(protocol.classifier, features, options, config.seed)
        yield {
            "protocol": name,
            "train_file": data.train,
            "val_file": data.val,
            "labels": config.labels,
            "seed": config.seed,
            "num_features": features.train.shape[1],
            "num_train": len(features.train),
            "num_val": len(features.val),
            "num_classes": len(classes),
            "remarks": list(classes.remarks),
            "views": num_views,
            "augmentation": protocol.augmentation(num_views),
            "classifier": protocol.classifier_text(options),
            **accuracies,
            "seconds": encoded[2] + time.perf_counter() - begun_at,
            "method": trained.name,
            "steps": trained.steps,
            "epochs": trained.epochs,
            "training_seconds": trained.training_seconds,
        }


def classify(
    classifier: str, features: Features, options: Mapping[str, Any], seed: int
) -> dict[str, float | None]:
    """Return the accuracies of a classifier on both files, and the best of its epochs."""
    if classifier == "knn":
        return {"train": None, "test": knn_accuracy(*features, **options), "best": None}
    found = linear_probe(*features, **options, seed=seed)
    return {"train": found.train, "test": found.last, "best": found.best}
