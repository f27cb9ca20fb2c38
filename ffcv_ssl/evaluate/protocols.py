"""Published evaluation protocols of frozen features."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ffcv_ssl.evaluate.features import MLP
from ffcv_ssl.evaluate.protocol_views import GRID

BAG_LINEAR = {
    "epochs": 100,
    "batch_size": 100,
    "lr": 0.03,
    "momentum": 0.9,
    "weight_decay": 5e-5,
    "standardize": False,
}
FASTSSL = {
    "optimizer": "adam",
    "epochs": 200,
    "batch_size": 512,
    "lr": 1e-3,
    "weight_decay": 1e-6,
    "label_smoothing": 0.1,
}
PRECOMPUTED = {
    "optimizer": "adam",
    "epochs": 500,
    "batch_size": 1000,
    "lr": 0.01,
    "weight_decay": 5e-6,
    "standardize": False,
}


@dataclass(frozen=True)
class Protocol:
    """One evaluation protocol: the views of an image, and the classifier of their mean feature.

    Features are those of the backbone. For the views "training", "clean" and "grid" they are those
    of the method's `patch_features` if it has that function: in EMP-SSL, the first layer of the
    projector.

    Parameters
    ----------
    views
        Views to encode. "whole": the whole image; "training": random views as in the training;
        "clean": random crops and flips as in the training, without any change of color; "grid":
        patches at fixed positions; "mixed": the whole image, and random views as in the training.
    num_views
        Number of views of each image.
    classifier
        "knn", or "linear" (which may have a hidden layer).
    options
        Arguments of `knn_accuracy` or `linear_probe`.
    """

    views: Literal["whole", "training", "clean", "grid", "mixed"]
    num_views: int
    classifier: Literal["knn", "linear"]
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_bag(self) -> bool:
        """Whether `bag_encoder` encodes the views, instead of the backbone alone."""
        return self.views not in ("whole", "mixed")

    def augmentation(self, num_views: int) -> str:
        """Describe the augmentation of the views in words.

        Parameters
        ----------
        num_views
            Number of views of each image.

        Returns
        -------
        str
            Text for tables and records.
        """
        words = {
            "whole": "none",
            "training": "as in training",
            "clean": "crop, flip",
            "grid": f"none, {GRID} x {GRID} grid",
        }
        return words.get(self.views, f"1 none, {num_views - 1} as in training")

    def classifier_text(self, options: Mapping[str, Any]) -> str:
        """Describe the classifier in words.

        Parameters
        ----------
        options
            Arguments of the classifier.

        Returns
        -------
        str
            Text for tables and records, which identifies the classifier.
        """
        if self.classifier == "knn":
            is_weighted = options["temperature"] != float("inf")
            weights = f"T={options['temperature']:g}" if is_weighted else "unweighted"
            return f"kNN k={options['k']}, {weights}"
        kind = f"MLP {options['hidden']}" if options.get("hidden") else "linear"
        scaled = ", standardized" if options.get("standardize", True) else ""
        optimizer = f"{options.get('optimizer', 'sgd')} {options['lr']:g}"
        length = f"{options['epochs']} epochs, B={options['batch_size']}"
        return f"{kind}, {optimizer}, {length}{scaled}"


INF = float("inf")
# Protocols with the same views are adjacent, because they share one encoding.
PROTOCOLS = {
    # as at the end of a run
    "whole_image": Protocol("whole", 1, "linear", {**BAG_LINEAR, "standardize": True}),
    # EMP-SSL; solo-learn, offline
    "knn_a": Protocol("whole", 1, "knn", {"k": 20, "temperature": 0.07}),
    # dkobak/simclr-cifar10
    "knn_b": Protocol("whole", 1, "knn", {"k": 10, "temperature": INF}),
    # lightly
    "knn_c": Protocol("whole", 1, "knn", {"k": 200, "temperature": 0.1}),
    # dkobak/simclr-cifar10
    "linear_precomputed": Protocol("whole", 1, "linear", PRECOMPUTED),
    "mlp": Protocol("whole", 1, "linear", {**MLP, "epochs": 100}),
    # kumarkrishna/fastssl
    "fastssl": Protocol("mixed", 16, "linear", {**FASTSSL, "standardize": False, "cosine": False}),
    "emp_grid": Protocol("grid", GRID**2, "linear", BAG_LINEAR),
    "emp_clean": Protocol("clean", 128, "linear", BAG_LINEAR),
    # tsb0601/EMP-SSL, arXiv 2304.03977, tables 1 to 6
    "emp_paper": Protocol("training", 128, "linear", BAG_LINEAR),
}
