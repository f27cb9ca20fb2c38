"""The published ways of judging frozen features, by name: which views of an image are averaged, and what classifies the mean."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch

from ffcv_ssl.evaluate.examine import examine_files
from ffcv_ssl.evaluate.features import MLP, Encoder, Evaluation, Features
from ffcv_ssl.evaluate.restore import Trained
from ffcv_ssl.ssl import Method, knn_accuracy, linear_probe
from ffcv_ssl.ssl.probes.memory import check_memory, classifier_bytes
from ffcv_ssl.train.classes import Classes
from ffcv_ssl.train.config import EvalConfig, at_least, option, read_unset, require
from ffcv_ssl.train.network import frozen
from ffcv_ssl.train.views import Views
from ffcv_ssl.transforms import FixedPatchCrop, MultiView, RandomHorizontalFlip
from ffcv_ssl.transforms.crop import Crop

GRID = 9  # patches along each side of an image
DEFAULT_PATCH = 0.25  # share of the image that a patch of the grid covers, where the training has no patches: EMP-SSL's 16 of 32 pixels

BAG_LINEAR = {"epochs": 100, "batch_size": 100, "lr": 0.03, "momentum": 0.9, "weight_decay": 5e-5, "standardize": False}
FASTSSL = {"optimizer": "adam", "epochs": 200, "batch_size": 512, "lr": 1e-3, "weight_decay": 1e-6, "label_smoothing": 0.1}


@dataclass(frozen=True)
class Protocol:
    """One way of judging frozen features.

    Parameters
    ----------
    views
        What of an image is encoded: "whole" the whole image; "training" random views as in training; "clean" the same without any change
        of colour; "grid" patches at fixed places; "mixed" the whole image and random views as in training. The mean over the views is
        classified: of the projector's first layer for "training", "clean" and "grid" where the method defines `patch_features`
        (EMP-SSL), else of the backbone.
    num_views
        Of each image.
    classifier
        "knn" or "linear" (which may have a hidden layer).
    options
        Of `knn_accuracy` or `linear_probe`.
    """

    views: Literal["whole", "training", "clean", "grid", "mixed"]
    num_views: int
    classifier: Literal["knn", "linear"]
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_bag(self) -> bool:
        """Whether `bag_encoder` encodes the views, not the backbone alone."""
        return self.views not in ("whole", "mixed")

    def augmentation(self, num_views: int) -> str:
        """The views in words."""
        words = {"whole": "none", "training": "as in training", "clean": "crop, flip", "grid": f"none, {GRID} x {GRID} grid"}
        return words.get(self.views, f"1 none, {num_views - 1} as in training")

    def classifier_text(self, options: Mapping[str, Any]) -> str:
        """The classifier in words."""
        if self.classifier == "knn":
            return f"kNN k={options['k']}, " + ("unweighted" if options["temperature"] == float("inf") else f"T={options['temperature']:g}")
        kind = f"MLP {options['hidden']}" if options.get("hidden") else "linear"
        scaled = ", standardized" if options.get("standardize", True) else ""
        return f"{kind}, {options.get('optimizer', 'sgd')} {options['lr']:g}, {options['epochs']} epochs, B={options['batch_size']}{scaled}"


PROTOCOLS = {  # protocols of equal views stand together: they share one encoding
    "whole_image": Protocol("whole", 1, "linear", {**BAG_LINEAR, "standardize": True}),  # as at the end of a run
    "knn_a": Protocol("whole", 1, "knn", {"k": 20, "temperature": 0.07}),  # EMP-SSL, solo-learn offline
    "knn_b": Protocol("whole", 1, "knn", {"k": 10, "temperature": float("inf")}),  # dkobak/simclr-cifar10
    "knn_c": Protocol("whole", 1, "knn", {"k": 200, "temperature": 0.1}),  # lightly
    "linear_precomputed": Protocol(  # dkobak/simclr-cifar10
        "whole",
        1,
        "linear",
        {"optimizer": "adam", "epochs": 500, "batch_size": 1000, "lr": 0.01, "weight_decay": 5e-6, "standardize": False},
    ),
    "mlp": Protocol("whole", 1, "linear", {**MLP, "epochs": 100}),
    "fastssl": Protocol("mixed", 16, "linear", {**FASTSSL, "standardize": False, "cosine": False}),  # kumarkrishna/fastssl
    "emp_grid": Protocol("grid", GRID**2, "linear", BAG_LINEAR),
    "emp_clean": Protocol("clean", 128, "linear", BAG_LINEAR),
    "emp_paper": Protocol("training", 128, "linear", BAG_LINEAR),  # tsb0601/EMP-SSL, arXiv 2304.03977 tables 1 to 6
}


@dataclass(frozen=True)
class ProbeConfig:
    """How frozen features are judged."""

    protocol: str = option(f"all, or some of {', '.join(PROTOCOLS)}, with commas between", "whole_image,knn_a")
    labels: float = option("share of the training file's labels that classifiers learn from, in (0, 1], of each class alike", 1.0)
    seed: int = option("of the choice of labels, and of the classifiers' weights and order, >= 0", 0)
    views: int | None = option("random views of each image, >= 2; none: the protocol's own number", None)
    epochs: int | None = option("epochs of linear classifiers and MLPs; none: the protocol's own number", None)
    batch_size: int = option("views per forward pass, >= 1", 500)
    device: str = option("auto, cpu, cuda or cuda:N", "auto")
    precision: Literal["auto", "float32", "bfloat16", "float16"] = option("of the network's arithmetic", "auto")

    def __post_init__(self):
        read_unset(self, views=0, epochs=0)
        for name in self.names if self.protocol != "all" else ():
            require(name in PROTOCOLS, f"no protocol '{name}'. Protocols: all, {', '.join(PROTOCOLS)}.")
        require(0 < self.labels <= 1, f"labels is a share in (0, 1], got {self.labels}.")
        require(self.seed >= 0, f"seed is at least 0, got {self.seed}.")
        at_least(self, 2, "views")
        at_least(self, 1, "epochs")
        require(self.batch_size >= 1, f"batch_size is at least 1, got {self.batch_size}.")

    @property
    def names(self) -> list[str]:
        """The protocols asked for, in the order of `PROTOCOLS`."""
        asked = [name.strip() for name in self.protocol.split(",")]
        return list(PROTOCOLS) if asked == ["all"] else sorted(set(asked), key=[*PROTOCOLS, *asked].index)


def probe(trained: Trained, config: ProbeConfig, device: torch.device, precision: str) -> Iterator[dict[str, Any]]:
    """Judge a trained method by each of the protocols.

    Parameters
    ----------
    trained
        As restored; `trained.configs.data` names the files, which need labels.
    config
        Which protocols.
    device, precision
        Where and in which precision to encode; the method is moved there.

    Returns
    -------
    Iterator of dicts
        For each protocol, measured when it is asked for, fit for JSON: what was measured and how; train, test, best (highest of the
        epochs, chosen on the validation file): shares, 0..1, None where the classifier has none; seconds of encoding (which protocols of
        equal views share) and classifying.

    Raises
    ------
    ConfigError
        If there is no validation file, the classes of the files do not match (see `match_classes`), a protocol needs the views of a
        training that is not known, or there are so many classes that its classifier would need too much memory.
    """
    data = trained.configs.data
    require(bool(data.train and data.val), "give data.train and data.val: a training file to learn classifiers from, one to judge them on.")
    if not trained.has_views:
        lost = [name for name in config.names if PROTOCOLS[name].views != "whole"]
        require(not lost, f"an exported backbone does not know its training's views, which {', '.join(lost)} need: give the run's folder.")
    classes = examine_files(data, trained.trained_on)
    for name in config.names:
        _check_memory(name, trained.method, len(classes))
    return _measure(trained, config, device, precision, classes)


def _check_memory(name: str, method: Method, num_classes: int) -> None:
    protocol = PROTOCOLS[name]
    if protocol.classifier == "linear":
        width = num_patch_features(method) if protocol.is_bag else method.backbone.num_features
        hidden = [protocol.options["hidden"]] if protocol.options.get("hidden") else []
        needed = classifier_bytes(protocol.options["batch_size"], [width, *hidden, num_classes])  # type: ignore[list-item]
        check_memory(f"the classifier of the protocol {name}", needed, num_classes, "knn_a works for any number.")


def _measure(trained: Trained, config: ProbeConfig, device: torch.device, precision: str, classes: Classes) -> Iterator[dict[str, Any]]:
    c, data, method = trained.configs, trained.configs.data, trained.method.to(device)
    judge = EvalConfig(batch_size=config.batch_size)
    encoded: tuple[Any, Any, float] = (None, None, 0.0)
    for name in config.names:
        protocol = PROTOCOLS[name]
        num_views = config.views or protocol.num_views if protocol.views in ("training", "clean", "mixed") else protocol.num_views
        if encoded[0] != (protocol.views, num_views):
            begun = time.perf_counter()
            features = encode(method, c, judge, protocol.views, num_views, device, precision)
            encoded = (protocol.views, num_views), features, time.perf_counter() - begun
        features = few_labels(encoded[1], config.labels, config.seed)
        options = dict(protocol.options)
        if config.epochs and protocol.classifier == "linear":
            options["epochs"] = config.epochs
        begun = time.perf_counter()
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
            "seconds": encoded[2] + time.perf_counter() - begun,
            "method": trained.name,
            "steps": trained.steps,
            "epochs": trained.epochs,
            "training_seconds": trained.training_seconds,
        }


def classify(classifier: str, features: Features, options: Mapping[str, Any], seed: int) -> dict[str, float | None]:
    """Accuracies of a classifier on the training and the validation features, and the best of its epochs."""
    if classifier == "knn":
        return {"train": None, "test": knn_accuracy(*features, **options), "best": None}
    found = linear_probe(*features, **options, seed=seed)
    return {"train": found.train, "test": found.last, "best": found.best}


def encode(method: Method, c: Any, config: EvalConfig, views: str, num_views: int, device: torch.device, precision: str) -> Features:
    """Features of both files: of each image the mean over its views; see `Protocol`."""

    def mean_over(kind: str, count: int, encoder: Encoder) -> Features:
        with open_views(c, config, kind, count, device, precision) as evaluation:
            return evaluation.features(encoder)

    with frozen(method):
        if views == "whole":
            return mean_over(views, 1, method.features)
        if views != "mixed":
            return mean_over(views, num_views, bag_encoder(method))
        whole = mean_over("whole", 1, method.features)
        random = mean_over("training", num_views - 1, method.features)
        train, val = ((one + (num_views - 1) * rest) / num_views for one, rest in zip(whole[::2], random[::2], strict=True))
        return Features(train, whole.train_labels, val, whole.val_labels)


def bag_encoder(method: Method) -> Encoder:
    """What a bag of views averages: `patch_features` where the method defines them, else the backbone's features."""
    return getattr(method, "patch_features", method.features)


def num_patch_features(method: Method) -> int:
    """Length of what `bag_encoder` returns."""
    return getattr(method, "num_patch_features", method.backbone.num_features)  # type: ignore[arg-type]


def open_views(c: Any, config: EvalConfig, views: str, num_views: int, device: torch.device, precision: str) -> Evaluation:
    """Both files as views of a kind that `Protocol` lists, "mixed" aside; random ones are those of the run's seed + 1."""
    if views == "whole":
        pipeline = c.view.whole()
    elif views == "grid":
        pipeline = grid(c.view)
    else:
        pipeline = c.view.pipeline(c.view.size, num_views)
        pipeline = without_color(pipeline) if views == "clean" else pipeline
    return Evaluation(c.data, config, pipeline, device, precision, num_views=num_views, seed=c.train.seed + 1)


def without_color(pipeline: Sequence[Any]) -> list[Any]:
    """The same views, of which only crop and flip are left."""
    kept = (Crop, RandomHorizontalFlip)
    return [MultiView([[step for step in view if isinstance(step, kept)] for view in views]) for views in pipeline]


def grid(view: Views) -> list[Any]:
    """Patches at `GRID` x `GRID` evenly spaced places, resized as in training; on 32 pixels patches of 16 move by 2."""
    patch = getattr(view, "patch", DEFAULT_PATCH)
    shares = [i / (GRID - 1) for i in range(GRID)]
    crops = [FixedPatchCrop(view.size, patch=patch, place=(down, right)) for down in shares for right in shares]
    return [MultiView([[crop] for crop in crops])]


def few_labels(features: Features, share: float, seed: int) -> Features:
    """Keep a share of the training features, see `balanced_subset`."""
    if share == 1:
        return features
    kept = torch.from_numpy(balanced_subset(features.train_labels.cpu().numpy(), share, seed)).to(features.train.device)
    return features._replace(train=features.train[kept], train_labels=features.train_labels[kept])


def balanced_subset(labels: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Positions of a random share of each class, at least one of each, sorted.

    Parameters
    ----------
    labels
        (N,) integers.
    share
        In (0, 1].
    seed
        Equal seeds choose equally.
    """
    generator = np.random.default_rng(seed)
    order = np.argsort(labels, kind="stable")
    starts = np.flatnonzero(np.diff(labels[order])) + 1
    chosen = []
    for of_class in np.split(order, starts):
        chosen.append(generator.permutation(of_class)[: max(1, round(share * len(of_class)))])
    return np.sort(np.concatenate(chosen))
