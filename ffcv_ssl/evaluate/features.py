"""Evaluation of frozen features: kNN, linear classifier, MLP and effective rank."""

import logging
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ffcv_ssl.evaluate.encoding import Encoder, Features, extract_features
from ffcv_ssl.loader import Loader, OrderOption
from ffcv_ssl.ssl import knn_accuracy, linear_probe, rankme
from ffcv_ssl.ssl.probes.memory import check_memory, classifier_bytes, num_weights
from ffcv_ssl.train.classes import Classes, match_classes
from ffcv_ssl.train.config import DataConfig, EvalConfig
from ffcv_ssl.train.samples import random_samples
from ffcv_ssl.train.views import delivered

logger = logging.getLogger("ffcv_ssl")

RANKME_SAMPLES = 25_600  # as in the RankMe paper
MLP: dict[str, Any] = {  # values of this project
    "optimizer": "adam",
    "batch_size": 256,
    "lr": 1e-3,
    "weight_decay": 1e-6,
    "hidden": 2048,
}
# Multiply-adds per weight and sample: forward, and backward to inputs and to weights.
PASSES = 3
SLOW_ON_A_CPU = 1e14  # multiply-adds; an hour at 3e10 per second


def raw_pixels(images: Tensor) -> Tensor:
    """Flatten images; the baseline encoder.

    Parameters
    ----------
    images
        (N, 3, H, W) uint8.

    Returns
    -------
    Tensor
        (N, 3 * H * W) float32, in [-0.5, 0.5].

    Examples
    --------
    >>> raw_pixels(torch.full((2, 3, 8, 8), 255, dtype=torch.uint8)).shape
    torch.Size([2, 192])
    """
    return images.flatten(1).float() / 255 - 0.5


class Evaluation:
    """Evaluation of features on a training and a validation file.

    Without a validation file, nothing is opened and nothing is measured.

    Parameters
    ----------
    data
        Files; both need labels.
    config
        Scores to compute.
    pipeline
        Transforms of the image field, without a device: a single view, or many random patches whose
        features are averaged.
    device, precision
        Device and precision of the encoding.
    num_views
        Number of views of each image in `pipeline`. The configured batch size counts views.
    seed
        Random seed for the views, which are the same in every call.

    Attributes
    ----------
    classes
        Classes of both files, or None without a validation file.
    loaders
        Open loaders of the training and the validation file, or none.

    Raises
    ------
    ConfigError
        If a file has no labels, or their classes do not match; see `match_classes`.
    """

    def __init__(
        self,
        data: DataConfig,
        config: EvalConfig,
        pipeline: Sequence[Any],
        device: torch.device,
        precision: str = "float32",
        num_views: int = 1,
        seed: int = 0,
    ) -> None:
        self.config, self.label = config, data.label
        self.device, self.precision = device, precision
        self.loaders: list[Loader] = []
        self.classes: Classes | None = None
        files = ((data.train, config.train_images), (data.val, None)) if data.val else ()
        for path, max_images in files:
            loader = Loader(
                path,
                batch_size=max(1, config.batch_size // num_views),
                order=OrderOption.SEQUENTIAL,
                seed=seed,
                indices=random_samples(path, max_images) if max_images else None,
                pipelines={data.image: delivered(pipeline, device)},
                num_workers=data.workers,
                drop_last=False,
            )
            self.loaders.append(loader)
        if self.loaders:
            try:
                train, val = (loader.reader for loader in self.loaders)
                self.classes = match_classes(train, val, data.label)
            except BaseException:
                self.close()
                raise

    def __enter__(self) -> "Evaluation":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the loaders."""
        for loader in self.loaders:
            loader.close()

    def features(self, encoder: Encoder) -> Features:
        """Encode both files. Random views are those of epoch 0.

        Parameters
        ----------
        encoder
            Function that maps (N, 3, H, W) uint8 images to (N, D) features.

        Returns
        -------
        Features
            Features and class indices of both files.
        """
        found: list[Tensor] = []
        numberings = (self.classes.train, self.classes.val) if self.classes is not None else ()
        for loader, numbering in zip(self.loaders, numberings, strict=True):
            assert numbering is not None, "there is a validation file"
            loader.set_epoch(0)
            features, labels = extract_features(
                encoder, loader, self.label, self.device, self.precision
            )
            found += features, numbering(labels)
        return Features(*found)

    def predictions(self, logits: Encoder) -> Features:
        """Predict the classes of both files.

        Parameters
        ----------
        logits
            Function that maps (N, 3, H, W) uint8 images to (N, C) logits.

        Returns
        -------
        Features
            Like those of `features`, with (M, 1) and (N, 1) predicted class indices as features.
        """
        return self.features(lambda images: logits(images).argmax(dim=1, keepdim=True))

    def check_cost(self, num_features: int) -> None:
        """Check the cost of the classifiers of `full`; warn if one will take hours.

        Parameters
        ----------
        num_features
            Length of the features.

        Raises
        ------
        ConfigError
            If a classifier needs too much memory.
        """
        if self.classes is None:
            return
        num_classes, num_images = len(self.classes), len(self.loaders[0].indices)
        for name, epochs, hidden in (
            ("linear", self.config.linear_epochs, []),
            ("mlp", self.config.mlp_epochs, [MLP["hidden"]]),
        ):
            if not epochs:
                continue
            subject = f"the {name} classifier of the evaluation"
            remedy = f"eval.{name}_epochs=0 turns it off"
            sizes = [num_features, *hidden, num_classes]
            needed = classifier_bytes(MLP["batch_size"], sizes)
            hint = f"{remedy}; kNN works for any number of classes."
            check_memory(subject, needed, num_classes, hint)
            work = PASSES * epochs * num_images * num_weights(sizes)
            if self.device.type == "cpu" and work > SLOW_ON_A_CPU:
                logger.warning(
                    f"{subject}, for {num_classes:,} classes, will take hours on a CPU "
                    f"({work:.1e} multiply-adds); {remedy}."
                )

    def quick(self, features: Features) -> dict[str, float]:
        """Return the scores that are computed quickly.

        Parameters
        ----------
        features
            Features of both files.

        Returns
        -------
        dict
            knn, the accuracy of the kNN vote in 0..1; rankme, the effective rank.
        """
        knn = knn_accuracy(*features, k=self.config.k, temperature=self.config.temperature)
        # Selected at random, because files may be sorted by class.
        selected = torch.from_numpy(random_samples(len(features.train), RANKME_SAMPLES))
        return {"knn": knn, "rankme": rankme(features.train[selected.to(features.train.device)])}

    def full(self, features: Features, standardize: bool = True) -> dict[str, float]:
        """Return all scores of features.

        Parameters
        ----------
        features
            Features of both files.
        standardize
            Whether the linear classifier standardizes the features; see `linear_probe`.

        Returns
        -------
        dict
            Scores; see `scores`.
        """
        scores = self.quick(features)
        if self.config.linear_epochs:
            epochs = self.config.linear_epochs
            probe = linear_probe(*features, epochs=epochs, standardize=standardize)
            scores |= {"linear": probe.last, "linear_best": probe.best, "linear_train": probe.train}
        if self.config.mlp_epochs:
            scores["mlp"] = linear_probe(*features, epochs=self.config.mlp_epochs, **MLP).last
        return scores | {"num_features": features.train.shape[1]}

    def scores(self, encoder: Encoder, standardize: bool = True) -> dict[str, float]:
        """Encode both files, and return all scores of the features.

        Parameters
        ----------
        encoder
            Function that maps (N, 3, H, W) uint8 images to (N, D) features. Call `frozen` around
            the network.
        standardize
            Whether the linear classifier standardizes the features; see `linear_probe`.

        Returns
        -------
        dict
            knn, linear, linear_best (highest of all epochs), linear_train and mlp: accuracies in
            0..1; rankme, the effective rank; num_features. Empty without a validation file.
        """
        return self.full(self.features(encoder), standardize) if self.loaders else {}
