"""One training run, from its configuration to its result: data, model, loop, evaluation."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ffcv_ssl.errors import ConfigError
from ffcv_ssl.evaluate.configs import Configs, OnlineProbeConfig
from ffcv_ssl.evaluate.examine import examine_files
from ffcv_ssl.evaluate.export import export_backbone
from ffcv_ssl.evaluate.features import Evaluation
from ffcv_ssl.evaluate.protocol_views import num_patch_features
from ffcv_ssl.evaluate.scores import build_probes, needs_labels, score
from ffcv_ssl.evaluate.statistics import spread_scores
from ffcv_ssl.loader import Loader, OrderOption
from ffcv_ssl.runs.record import RunRecord
from ffcv_ssl.runs.result import Result, finish
from ffcv_ssl.ssl import Method
from ffcv_ssl.train.classes import Classes
from ffcv_ssl.train.config import (
    DataConfig,
    EvalConfig,
    LogConfig,
    ModelConfig,
    OptimConfig,
    TrainConfig,
)
from ffcv_ssl.train.device import prepare_torch
from ffcv_ssl.train.distributed import (
    is_main,
    loader_threads,
    process_group,
    rank,
    rank_batch_size,
    world_size,
)
from ffcv_ssl.train.growing import GrowingLoader
from ffcv_ssl.train.loop import fit
from ffcv_ssl.train.network import build_optimizer, frozen, num_features
from ffcv_ssl.train.progress import record_evaluation
from ffcv_ssl.train.samples import num_samples, random_samples
from ffcv_ssl.train.views import CropViews, Views, delivered
from ffcv_ssl.transforms import ToDevice

__all__ = ["Configs", "Recipe", "run"]


@dataclass(frozen=True)
class Recipe:
    """A training program: its method and its sections of the configuration.

    Parameters
    ----------
    name
        Name of the method, as in the file name of the recipe.
    summary
        Description for `ffcv-ssl train --help`.
    method
        Function that builds the method, on the CPU, from the configuration.
    loss
        Dataclass of the section "loss": projector and loss.
    view
        Dataclass of the section "view", a subclass of `Views`.
    more
        Section name → dataclass of the recipe's further sections.
    more_scores
        Function that computes further scores of the trained method. It is called with the frozen
        method that `method` built, the configuration, the device and the precision.
    """

    name: str
    summary: str
    method: Callable[[Configs], Method]
    loss: type
    view: type[Views] = CropViews
    more: Mapping[str, type] = field(default_factory=dict)
    # The first argument is the recipe's own subclass of Method.
    more_scores: Callable[[Any, Configs, torch.device, str], dict[str, float]] | None = None

    @property
    def sections(self) -> dict[str, type]:
        """Section name → dataclass of its options."""
        return {
            "data": DataConfig,
            "view": self.view,
            "model": ModelConfig,
            "loss": self.loss,
            "optim": OptimConfig,
            "train": TrainConfig,
            "eval": EvalConfig,
            "probe": OnlineProbeConfig,
            **self.more,
            "log": LogConfig,
        }


def run(
    recipe: Recipe, configs: Mapping[str, Any], announce: Callable[[], None] = lambda: None
) -> Result | None:
    """Train and evaluate a method.

    Parameters
    ----------
    recipe
        Recipe of the method.
    configs
        Section name → instance of its dataclass, for all `recipe.sections`.
    announce
        Function that rank 0 calls when the training begins, after files, configuration and
        checkpoint have been checked.

    Returns
    -------
    Result | None
        Result of the run. With several processes (`torchrun`), rank 0 evaluates and returns it; the
        others return None.

    Raises
    ------
    ConfigError
        If an option is not supported here, or does not fit the files.
    CheckpointError
        If the checkpoint to resume from cannot be read or does not fit.
    TrainingStopped
        If the training ends early; see `fit`.
    """
    c = Configs(**configs)
    device, precision = prepare_torch(c.train)
    with process_group(device):
        method = recipe.method(c)
        method.images_per_forward = c.model.images_per_forward
        method.views_per_forward = c.model.views_per_forward
        classes = examine_files(c.data) if c.data.val or needs_labels(c, method) else None
        with (
            GrowingLoader(partial(open_loader, c, device), c.view.size_at) as loader,
            Evaluation(c.data, c.eval, c.view.whole(), device, precision) as evaluation,
            # The last of these, so that an error in another leaves no folder behind.
            RunRecord(recipe.name, configs, c.train.resume, announce) as record,
        ):
            return _run(recipe, c, method.to(device), classes, record, loader, evaluation)


def _run(
    recipe: Recipe,
    c: Configs,
    method: Method,
    classes: Classes | None,
    record: RunRecord,
    loader: GrowingLoader,
    evaluation: Evaluation,
) -> Result | None:
    """Train and evaluate with an open record, loader and evaluation."""
    device, precision = evaluation.device, evaluation.precision
    optimizer = build_optimizer(method, c.optim, c.train.batch_size)
    probes = build_probes(c, method, classes if needs_labels(c, method) else None)
    check_classifiers(c, method, evaluation)
    progress = fit(
        method,
        loader,
        optimizer,
        c.train,
        c.optim,
        record,
        evaluate=partial(score, evaluation, method, probes, evaluation.quick),
        times=c.eval.times,
        label=c.data.label,
        probes=probes,
        classes=classes,
    )
    if not is_main():
        return None
    begun_at = time.perf_counter()
    with frozen(method):
        scores = score(evaluation, method, probes, evaluation.full)
        if recipe.more_scores is not None:
            scores |= recipe.more_scores(method, c, device, precision)
    if c.data.val:
        scores |= spread_scores(method, c, device, precision)
    record_evaluation(progress, scores, time.perf_counter() - begun_at)
    epochs = loader.state_dict()["epoch"]
    export_backbone(method, c, recipe.name, record.folder, progress.step, epochs)
    return finish(
        record,
        progress,
        scores,
        device=device,
        precision=precision,
        num_views=c.view.num_views,
        steps_per_epoch=len(loader),
        classes=classes,
    )


def check_classifiers(c: Configs, method: Method, evaluation: Evaluation) -> None:
    """Check the cost of the classifiers of the final evaluation; see `Evaluation.check_cost`."""
    evaluation.check_cost(num_features(method.backbone))
    if "bag" in vars(c) and c.bag.patches:
        evaluation.check_cost(num_patch_features(method))


def open_loader(c: Configs, device: torch.device, size: int) -> Loader:
    """Open the training loader.

    Parameters
    ----------
    c
        Configuration of the run.
    device
        Device that trains.
    size
        Side length of the views in pixels.

    Returns
    -------
    Loader
        Loader of uint8 views, which the method normalizes on its device.

    Raises
    ------
    ConfigError
        If the views are to be rendered on a GPU and the run is on another device.
    """
    views = c.view.pipeline(size, c.view.num_views)
    if c.data.render == "gpu":
        if device.type != "cuda":
            raise ConfigError(
                "data.render: rendering views on a GPU requires a run on a GPU, but this run is on "
                f"the {device.type}. Use data.render=cpu."
            )
        views = [ToDevice(device), *views]
    else:
        views = delivered(views, device)
    return Loader(
        c.data.train,
        batch_size=rank_batch_size(c.train),
        order=OrderOption.RANDOM,
        seed=c.train.seed,
        indices=subset(c),
        pipelines={c.data.image: views},
        num_workers=loader_threads(c.data.workers),
        rank=rank(),
        world_size=world_size(),
        cache=c.data.cache,
    )


def subset(c: Configs) -> NDArray[np.int64] | None:
    """Return the positions of the samples to train on, sorted; None for all samples."""
    if c.data.fraction == 1:
        return None
    count = max(1, round(c.data.fraction * num_samples(c.data.train)))
    return random_samples(c.data.train, count, c.train.seed)
