"""What frozen features are worth: features of a whole file, then kNN, linear classifier and effective rank."""

import logging
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ffcv_ssl.loader import Loader, OrderOption
from ffcv_ssl.ssl import knn_accuracy, linear_probe, rankme
from ffcv_ssl.ssl.probes.memory import check_memory, classifier_bytes, num_weights
from ffcv_ssl.train.classes import Classes, match_classes
from ffcv_ssl.train.config import DataConfig, EvalConfig
from ffcv_ssl.train.device import autocast
from ffcv_ssl.train.samples import random_samples
from ffcv_ssl.train.views import delivered

logger = logging.getLogger("ffcv_ssl")

RANKME_SAMPLES = 25_600  # as in its paper
MLP: dict[str, Any] = {"optimizer": "adam", "batch_size": 256, "lr": 1e-3, "weight_decay": 1e-6, "hidden": 2048}  # this project's values
PASSES = 3  # multiply-adds for each weight and sample: forward, and backward to inputs and weights
SLOW_ON_A_CPU = 1e14  # multiply-adds; an hour at 3e10 a second
Encoder = Callable[[Tensor], Tensor]  # (N, 3, H, W) uint8 -> (N, D)


def raw_pixels(images: Tensor) -> Tensor:
    """The encoder to beat: (N, 3, H, W) uint8 to (N, 3HW) values in -.5 .. .5."""
    return images.flatten(1).float() / 255 - 0.5


@torch.no_grad()
def extract_features(encoder: Encoder, loader: Any, label: str, device: torch.device, precision: str = "float32") -> tuple[Tensor, Tensor]:
    """Encode every sample of `loader` once.

    Parameters
    ----------
    encoder
        Maps (N, 3, H, W) uint8 on `device` to (N, D).
    loader
        Yields named tuples: first field (B, 3, H, W), or (B, V, 3, H, W) of which the V features are averaged (a bag of patches).
    label
        Name of the field that holds the labels.
    device, precision
        Where and in which precision to encode.

    Returns
    -------
    (N, D) float32 and (N,) int64, on `device`.
    """
    features, labels = [], []
    for batch in loader:
        images = batch[0].to(device, non_blocking=True)
        with autocast(device, precision):
            if images.ndim == 5:
                encoded = encoder(images.flatten(0, 1)).float().unflatten(0, images.shape[:2]).mean(dim=1)
            else:
                encoded = encoder(images).float()
        features.append(encoded)
        labels.append(batch[label].to(device).long().flatten())
    return torch.cat(features), torch.cat(labels)


def share_right(predicted: Tensor, labels: Tensor) -> float:
    """Share of (N, 1) predicted classes, see `Evaluation.predictions`, that are the (N,) labels."""
    return int((predicted[:, 0] == labels).sum()) / len(labels)


class Features(NamedTuple):
    """Features (M, D) and classes (M,) of the training file, (N, D) and (N,) of the validation file.

    Classes are numbered as in `Classes`: 0..C-1, and -1 in the validation file for a class that the
    training file does not show.
    """

    train: Tensor
    train_labels: Tensor
    val: Tensor
    val_labels: Tensor


class Evaluation:
    """The training and the validation file as the evaluation sees them; without a validation file it measures nothing.

    Attributes
    ----------
    classes
        The classes of both files; None without a validation file.

    Parameters
    ----------
    data
        The files; both need labels.
    config
        What to measure.
    pipeline
        Of the image field, without device: a plain view, or many random patches, whose features are averaged.
    device, precision
        Where and in which precision to encode.
    num_views
        Views per image in `pipeline`; the configured batch size counts views.
    seed
        Of random views, which are the same at every call.

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
    ):
        self.config, self.label, self.device, self.precision = config, data.label, device, precision
        self.loaders: list[Loader] = []
        self.classes: Classes | None = None
        for path, most in ((data.train, config.train_images), (data.val, None)) if data.val else ():
            loader = Loader(
                path,
                batch_size=max(1, config.batch_size // num_views),
                order=OrderOption.SEQUENTIAL,
                seed=seed,
                indices=random_samples(path, most) if most else None,
                pipelines={data.image: delivered(pipeline, device)},
                num_workers=data.workers,
                drop_last=False,
            )
            self.loaders.append(loader)
        if self.loaders:
            try:
                self.classes = match_classes(self.loaders[0].reader, self.loaders[1].reader, data.label)
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
        """Encode both files, random views as in epoch 0."""
        found: list[Tensor] = []
        numberings = (self.classes.train, self.classes.val) if self.classes is not None else ()
        for loader, numbers in zip(self.loaders, numberings, strict=True):
            assert numbers is not None, "there is a validation file"
            loader.set_epoch(0)
            features, labels = extract_features(encoder, loader, self.label, self.device, self.precision)
            found += features, numbers(labels)
        return Features(*found)

    def predictions(self, logits: Encoder) -> Features:
        """Like `features`, with the (M, 1) and (N, 1) class of the highest logit in their place."""
        return self.features(lambda images: logits(images).argmax(dim=1, keepdim=True))

    def check_cost(self, num_features: int) -> None:
        """Refuse a classifier of `full` that needs too much memory; say if it will take hours."""
        for name, epochs, hidden in (("linear", self.config.linear_epochs, []), ("mlp", self.config.mlp_epochs, [MLP["hidden"]])):
            if not epochs or self.classes is None:
                continue
            what, remedy = f"the {name} classifier of the evaluation", f"eval.{name}_epochs=0 leaves it out"
            sizes = [num_features, *hidden, len(self.classes)]
            needed = classifier_bytes(MLP["batch_size"], sizes)
            check_memory(what, needed, len(self.classes), f"{remedy}; kNN works for any number of classes.")
            work = PASSES * epochs * len(self.loaders[0].indices) * num_weights(sizes)
            if self.device.type == "cpu" and work > SLOW_ON_A_CPU:
                logger.warning(f"{what}, for {len(self.classes):,} classes, will take hours on a CPU ({work:.1e} multiply-adds); {remedy}.")

    def quick(self, features: Features) -> dict[str, float]:
        """What a training can be interrupted for: knn, the accuracy of the kNN vote, 0..1, and rankme, the effective rank."""
        knn = knn_accuracy(*features, k=self.config.k, temperature=self.config.temperature)
        some = torch.from_numpy(random_samples(len(features.train), RANKME_SAMPLES))  # files may be sorted by class
        return {"knn": knn, "rankme": rankme(features.train[some.to(features.train.device)])}

    def full(self, features: Features, standardize: bool = True) -> dict[str, float]:
        """The quick scores, those of the classifiers and the length of the features; see `scores`."""
        scores = self.quick(features)
        if self.config.linear_epochs:
            probe = linear_probe(*features, epochs=self.config.linear_epochs, standardize=standardize)
            scores |= {"linear": probe.last, "linear_best": probe.best, "linear_train": probe.train}
        if self.config.mlp_epochs:
            scores["mlp"] = linear_probe(*features, epochs=self.config.mlp_epochs, **MLP).last
        return scores | {"num_features": features.train.shape[1]}

    def scores(self, encoder: Encoder, standardize: bool = True) -> dict[str, float]:
        """Accuracies of kNN and classifiers, effective rank and length of the features.

        Parameters
        ----------
        encoder
            Maps (N, 3, H, W) uint8 images to (N, D) features. Call `frozen` around a network's.
        standardize
            See `linear_probe`.

        Returns
        -------
        dict
            knn; linear, linear_best (highest of all epochs), linear_train and mlp: shares of samples, 0..1; rankme; num_features. Empty
            without validation file.
        """
        return self.full(self.features(encoder), standardize) if self.loaders else {}
