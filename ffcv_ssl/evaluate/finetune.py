"""Fine-tuning of a backbone and a linear classifier, with all labels or a fraction of them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.optim import SGD, AdamW, Optimizer

from ffcv_ssl.errors import TrainingStopped
from ffcv_ssl.evaluate.encoding import Features, share_right
from ffcv_ssl.evaluate.examine import examine_files
from ffcv_ssl.evaluate.features import Evaluation
from ffcv_ssl.evaluate.restore import Trained
from ffcv_ssl.evaluate.subsets import balanced_subset
from ffcv_ssl.loader import Loader, OrderOption
from ffcv_ssl.runs.record import RunRecord
from ffcv_ssl.ssl import Supervised, parameter_groups
from ffcv_ssl.ssl.probes.memory import check_memory, classifier_bytes
from ffcv_ssl.train.classes import Classes
from ffcv_ssl.train.config import (
    DataConfig,
    EvalConfig,
    LogConfig,
    OptimConfig,
    TrainConfig,
    at_least,
    option,
    require,
)
from ffcv_ssl.train.device import describe_device, prepare_torch
from ffcv_ssl.train.loop import fit
from ffcv_ssl.train.network import frozen, num_features
from ffcv_ssl.train.progress import Progress
from ffcv_ssl.train.samples import read_labels
from ffcv_ssl.train.views import CropViews, delivered

# Options that the entry of a fine-tuning lists.
LISTED = ("epochs", "batch_size", "optimizer", "lr", "head_lr", "weight_decay", "min_scale")


@dataclass(frozen=True)
class FinetuneConfig:
    """Supervised training of the backbone. The defaults are this project's and were not tuned."""

    labels: float = option(
        "Fraction of the training images to use, in (0, 1]: the same fraction of each class, and "
        "at least one image of each",
        1.0,
    )
    epochs: int = option("Number of passes over these images, >= 1", 30)
    batch_size: int = option("Number of images per step, >= 2; at most all images", 128)
    optimizer: Literal["sgd", "adamw"] = option(
        "Optimizer: sgd (momentum 0.9) or adamw. The learning rates follow a cosine schedule", "sgd"
    )
    lr: float = option("Peak learning rate of the backbone, > 0", 0.01)
    head_lr: float = option("Peak learning rate of the classifier, > 0", 0.1)
    weight_decay: float = option(
        "Weight decay of all parameters except biases and normalization, >= 0", 1e-4
    )
    min_scale: float = option(
        "Smallest fraction of the image's area that a training crop covers, in (0, 1]. Crops are "
        "also flipped",
        0.25,
    )
    seed: int = option(
        "Random seed for image selection, classifier weights, sample order and crops, >= 0", 0
    )
    device: str = option("Device: auto, cpu, cuda or cuda:N", "auto")
    precision: Literal["auto", "float32", "bfloat16", "float16"] = option(
        "Precision of the network's arithmetic", "auto"
    )

    def __post_init__(self) -> None:
        require(0 < self.labels <= 1, f"labels must be in (0, 1], got {self.labels}.")
        at_least(self, 1, "epochs")
        at_least(self, 2, "batch_size")
        require(
            self.lr > 0 and self.head_lr > 0,
            f"lr and head_lr must be positive, got {self.lr} and {self.head_lr}.",
        )
        at_least(self, 0, "weight_decay", "seed")
        require(0 < self.min_scale <= 1, f"min_scale must be in (0, 1], got {self.min_scale}.")


class _Outcome(NamedTuple):
    """Result of `_train`."""

    progress: Progress
    predictions: Features
    device: torch.device
    precision: str


def finetune(trained: Trained, config: FinetuneConfig) -> dict[str, Any]:
    """Fine-tune a backbone, and evaluate the classifier on whole images.

    The folder `finetune/labels_FRACTION_seed_SEED` of the run receives the configuration, rows,
    curves and the last checkpoint. The files of an earlier fine-tuning are replaced.

    Parameters
    ----------
    trained
        Restored method. `trained.configs.data` names the files, which need labels. The backbone is
        modified.
    config
        Options of the fine-tuning.

    Returns
    -------
    dict
        Entry fit for JSON: test and train, the accuracies on the validation images and on the used
        training images after the last epoch, in 0..1; files, options, device and time.

    Raises
    ------
    ConfigError
        If there is no validation file, the classes of the files do not match (see `match_classes`),
        or the classifier would need too much memory.
    TrainingStopped
        If the training ends early; see `fit`.
    """
    data = trained.configs.data
    require(
        bool(data.train and data.val),
        "give data.train and data.val: a training file and a validation file, both with labels.",
    )
    classes = examine_files(data, trained.trained_on)
    chosen = labeled_images(data, config.labels, config.seed)
    sizes = [num_features(trained.method.backbone), len(classes)]
    needed = classifier_bytes(config.batch_size, sizes)
    check_memory("the classifier", needed, len(classes), "Give another data.label.")
    outcome = _train(trained, config, classes, chosen)
    found = outcome.predictions
    used = torch.from_numpy(chosen).to(outcome.device)
    return {
        "train_file": data.train,
        "val_file": data.val,
        "labels": config.labels,
        "seed": config.seed,
        "num_train": len(chosen),
        "num_val": len(found.val),
        "num_classes": len(classes),
        "remarks": list(classes.remarks),
        "test": share_right(found.val, found.val_labels),
        "train": share_right(found.train[used], found.train_labels[used]),
        "finetune_steps": outcome.progress.step,
        "seconds": outcome.progress.seconds,
        "options": {name: getattr(config, name) for name in LISTED},
        "device": describe_device(outcome.device),
        "precision": outcome.precision,
        "method": trained.name,
        "steps": trained.steps,
        "epochs": trained.epochs,
    }


def _train(
    trained: Trained, config: FinetuneConfig, classes: Classes, chosen: NDArray[np.int64]
) -> _Outcome:
    """Train on the chosen images, and predict the classes of both files."""
    c, data = trained.configs, trained.configs.data
    whole = c.view.whole()
    view = CropViews(
        size=whole[0].size[0], num_views=1, min_scale=config.min_scale, jitter=0.0, gray=0.0
    )
    train = TrainConfig(
        epochs=config.epochs,
        batch_size=min(config.batch_size, len(chosen)),
        seed=config.seed,
        device=config.device,
        threads=c.train.threads,
        precision=config.precision,
    )
    optim = OptimConfig(name=config.optimizer, lr=config.lr, weight_decay=config.weight_decay)
    folder = trained.folder / "finetune" / f"labels_{config.labels:g}_seed_{config.seed}"
    log = LogConfig(out=str(folder), tensorboard=False)
    device, precision = prepare_torch(train)
    method = _classifier(trained, len(classes)).to(device)
    (Path(log.out) / "checkpoint.pt").unlink(missing_ok=True)
    sections = {"data": data, "view": view, "model": c.model, "finetune": config, "log": log}
    loader = Loader(
        data.train,
        batch_size=train.batch_size,
        order=OrderOption.RANDOM,
        seed=config.seed,
        indices=chosen,
        pipelines={data.image: delivered(view.pipeline(view.size, 1), device)},
        num_workers=data.workers,
    )
    evaluation = Evaluation(data, EvalConfig(), whole, device, precision)
    optimizer = finetune_optimizer(method, config)
    name = f"{trained.name}, fine-tuned"
    with loader, evaluation, RunRecord(name, sections) as record:
        try:
            progress = fit(
                method, loader, optimizer, train, optim, record, label=data.label, classes=classes
            )
        except TrainingStopped as stopped:
            if stopped.exit_status <= 128:
                raise
            # Stopped by a signal. Fine-tuning cannot be resumed.
            raise TrainingStopped(
                "fine-tuning was stopped by a signal; run the same command to start it again.",
                exit_status=stopped.exit_status,
            ) from stopped
        with frozen(method):
            predictions = evaluation.predictions(method.classify)
    return _Outcome(progress, predictions, device, precision)


def _classifier(trained: Trained, num_classes: int) -> Supervised:
    """Return the backbone with a new linear classifier."""
    backbone = trained.method.backbone
    return Supervised(backbone, num_features(backbone), num_classes, trained.method.normalize)


def labeled_images(data: DataConfig, fraction: float, seed: int) -> NDArray[np.int64]:
    """Return the positions of the training images to use; see `balanced_subset`."""
    chosen = balanced_subset(read_labels(data.train, data.label), fraction, seed)
    require(
        len(chosen) >= 2,
        f"{data.train}: fine-tuning needs at least 2 images, but labels={fraction:g} selects "
        f"{len(chosen)}.",
    )
    return chosen


def finetune_optimizer(method: Supervised, config: FinetuneConfig) -> Optimizer:
    """Return an optimizer with separate learning rates for backbone and classifier."""
    groups = []
    for module, lr in ((method.backbone, config.lr), (method.projector, config.head_lr)):
        for group in parameter_groups(module, config.weight_decay, exclude_1d=True):
            groups.append({**group, "lr": lr, "initial_lr": lr})
    return AdamW(groups) if config.optimizer == "adamw" else SGD(groups, momentum=0.9)
