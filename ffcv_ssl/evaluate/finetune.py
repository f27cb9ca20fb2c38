"""Train a backbone on with labels, all of them or few: the loop of the recipes, with a linear classifier on top."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch.optim import SGD, AdamW, Optimizer

from ffcv_ssl.errors import TrainingStopped
from ffcv_ssl.evaluate.examine import examine_files
from ffcv_ssl.evaluate.features import Evaluation, share_right
from ffcv_ssl.evaluate.protocols import balanced_subset
from ffcv_ssl.evaluate.restore import Trained
from ffcv_ssl.loader import Loader, OrderOption
from ffcv_ssl.runs.record import RunRecord
from ffcv_ssl.ssl import Supervised, parameter_groups
from ffcv_ssl.ssl.probes.memory import check_memory, classifier_bytes
from ffcv_ssl.train.config import DataConfig, EvalConfig, LogConfig, OptimConfig, TrainConfig, option, require
from ffcv_ssl.train.device import describe_device, prepare_torch
from ffcv_ssl.train.loop import fit
from ffcv_ssl.train.network import frozen
from ffcv_ssl.train.samples import read_labels
from ffcv_ssl.train.views import CropViews, delivered


@dataclass(frozen=True)
class FinetuneConfig:
    """How the backbone is trained with labels. The defaults are this project's, untuned."""

    labels: float = option("share of the training file that is used, in (0, 1], of each class alike, at least one image of each", 1.0)
    epochs: int = option("passes over these images, >= 1", 30)
    batch_size: int = option("images per step, >= 2; at most as many as there are", 128)
    optimizer: Literal["sgd", "adamw"] = option("sgd (momentum .9) or adamw; the rates fall by a cosine per step", "sgd")
    lr: float = option("learning rate of the backbone at its highest, > 0", 0.01)
    head_lr: float = option("learning rate of the classifier at its highest, > 0", 0.1)
    weight_decay: float = option("weight decay of all but biases and normalization, >= 0", 1e-4)
    min_scale: float = option("smallest share of the image's area that a training crop covers, in (0, 1]; crops are also mirrored", 0.25)
    seed: int = option("of the choice of images, the classifier, order and crops, >= 0", 0)
    device: str = option("auto, cpu, cuda or cuda:N", "auto")
    precision: Literal["auto", "float32", "bfloat16", "float16"] = option("of the network's arithmetic", "auto")

    def __post_init__(self):
        require(0 < self.labels <= 1, f"labels is a share in (0, 1], got {self.labels}.")
        require(self.epochs >= 1, f"epochs is at least 1, got {self.epochs}.")
        require(self.batch_size >= 2, f"batch_size is at least 2, got {self.batch_size}.")
        require(self.lr > 0 and self.head_lr > 0, f"lr and head_lr must be positive, got {self.lr} and {self.head_lr}.")
        require(self.weight_decay >= 0, f"weight_decay is at least 0, got {self.weight_decay}.")
        require(0 < self.min_scale <= 1, f"min_scale is a share in (0, 1], got {self.min_scale}.")
        require(self.seed >= 0, f"seed is at least 0, got {self.seed}.")


def finetune(trained: Trained, config: FinetuneConfig) -> dict[str, Any]:
    """Fine-tune the backbone and judge the classifier on whole images.

    Leaves config, rows, curves and the last checkpoint in the folder `finetune/labels_SHARE_seed_SEED` of the run; what an earlier
    fine-tuning left there is replaced.

    Parameters
    ----------
    trained
        As restored; `trained.configs.data` names the files, which need labels. Its backbone is changed.
    config
        How.

    Returns
    -------
    dict
        Fit for JSON: test and train, the shares of the validation and the used training images that the classifier of the last epoch gets
        right, and the circumstances.

    Raises
    ------
    ConfigError
        If there is no validation file, the classes of the files do not match (see `match_classes`), or there are so many that the
        classifier would need too much memory.
    """
    c, data = trained.configs, trained.configs.data
    require(bool(data.train and data.val), "give data.train and data.val: a training file with labels, and one to judge the classifier on.")
    classes = examine_files(data, trained.trained_on)
    chosen = labelled_images(data, config.labels, config.seed)
    backbone: Any = trained.method.backbone
    needed = classifier_bytes(config.batch_size, [backbone.num_features, len(classes)])
    check_memory("the classifier", needed, len(classes), "Give another data.label.")
    whole = c.view.whole()
    view = CropViews(size=whole[0].size[0], num_views=1, min_scale=config.min_scale, jitter=0.0, gray=0.0)
    train = TrainConfig(
        epochs=config.epochs,
        batch_size=min(config.batch_size, len(chosen)),
        seed=config.seed,
        device=config.device,
        threads=c.train.threads,
        precision=config.precision,
    )
    optim = OptimConfig(name=config.optimizer, lr=config.lr, weight_decay=config.weight_decay)
    log = LogConfig(out=str(trained.folder / "finetune" / f"labels_{config.labels:g}_seed_{config.seed}"), tensorboard=False)
    device, precision = prepare_torch(train)
    method = Supervised(backbone, backbone.num_features, len(classes), trained.method.normalize).to(device)
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
    with loader, evaluation, RunRecord(f"{trained.name}, fine-tuned", sections) as record:
        try:
            progress = fit(method, loader, finetune_optimizer(method, config), train, optim, record, label=data.label, classes=classes)
        except TrainingStopped as stopped:
            if stopped.exit_status > 128:  # a signal
                message = "fine-tuning was stopped; the same command starts it again, from its beginning."
                raise TrainingStopped(message, exit_status=stopped.exit_status) from stopped
            raise
        with frozen(method):
            found = evaluation.predictions(method.classify)
    kept = torch.from_numpy(chosen).to(device)
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
        "train": share_right(found.train[kept], found.train_labels[kept]),
        "finetune_steps": progress.step,
        "seconds": progress.seconds,
        "options": {
            name: getattr(config, name) for name in ("epochs", "batch_size", "optimizer", "lr", "head_lr", "weight_decay", "min_scale")
        },
        "device": describe_device(device),
        "precision": precision,
        "method": trained.name,
        "steps": trained.steps,
        "epochs": trained.epochs,
    }


def labelled_images(data: DataConfig, share: float, seed: int) -> np.ndarray:
    """Positions of the training images that are used, see `balanced_subset`."""
    chosen = balanced_subset(read_labels(data.train, data.label), share, seed)
    require(len(chosen) >= 2, f"{data.train}: fine-tuning needs at least 2 images, labels={share:g} leaves {len(chosen)}.")
    return chosen


def finetune_optimizer(method: Supervised, config: FinetuneConfig) -> Optimizer:
    """The optimizer: backbone and classifier have learning rates of their own."""
    groups = []
    for module, lr in ((method.backbone, config.lr), (method.projector, config.head_lr)):
        for group in parameter_groups(module, config.weight_decay, exclude_1d=True):
            groups.append({**group, "lr": lr, "initial_lr": lr})
    return AdamW(groups) if config.optimizer == "adamw" else SGD(groups, momentum=0.9)
