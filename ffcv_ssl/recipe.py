"""A run from configuration to result: data, model, loop, evaluation. Recipes say which views and which method."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from ffcv_ssl.errors import ConfigError
from ffcv_ssl.evaluate.examine import examine_files
from ffcv_ssl.evaluate.export import export_backbone
from ffcv_ssl.evaluate.features import Evaluation
from ffcv_ssl.evaluate.protocols import num_patch_features
from ffcv_ssl.evaluate.scores import OnlineProbeConfig, build_probes, needs_labels, score
from ffcv_ssl.evaluate.statistics import spread_scores
from ffcv_ssl.loader import Loader, OrderOption
from ffcv_ssl.runs.record import RunRecord
from ffcv_ssl.runs.result import Result, finish
from ffcv_ssl.ssl import Method
from ffcv_ssl.train.classes import Classes
from ffcv_ssl.train.config import DataConfig, EvalConfig, LogConfig, ModelConfig, OptimConfig, TrainConfig
from ffcv_ssl.train.device import prepare_torch
from ffcv_ssl.train.distributed import is_main, loader_threads, process_group, rank, rank_batch_size, world_size
from ffcv_ssl.train.loop import fit
from ffcv_ssl.train.network import build_optimizer, frozen
from ffcv_ssl.train.progress import note
from ffcv_ssl.train.samples import num_samples, random_samples
from ffcv_ssl.train.views import CropViews, GrowingLoader, Views, delivered
from ffcv_ssl.transforms import ToDevice

Configs = Any  # a namespace with an instance for each of a recipe's sections: c.view.size, c.loss.out


@dataclass(frozen=True)
class Recipe:
    """What a program of `recipes/` adds to the parts that all of them share.

    Parameters
    ----------
    name
        Of the method, as in the recipe's file name.
    summary
        What `ffcv-ssl train --help` says about it.
    method
        Builds the method, on the CPU, from the configuration.
    loss
        Dataclass of the section "loss": projector and loss.
    view
        Dataclass of the section "view", a `Views`.
    more
        Further sections, by name.
    more_scores
        Scores of the trained method beside those of its backbone on whole images; called with the frozen method and the configuration,
        device and precision.
    """

    name: str
    summary: str
    method: Callable[[Configs], Method]
    loss: type
    view: type[Views] = CropViews
    more: Mapping[str, type] = field(default_factory=dict)
    more_scores: Callable[[Method, Configs, torch.device, str], dict[str, float]] | None = None

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


def run(recipe: Recipe, configs: Mapping[str, Any], announce: Callable[[], None] = lambda: None) -> Result | None:
    """Train and evaluate; `configs` holds an instance for each of the recipe's sections.

    `announce` is called, by the first process, when files, configuration and checkpoint have been found good.
    Of several processes (`torchrun`) the first evaluates and returns the result; the others return None.
    """
    c = SimpleNamespace(**configs)
    device, precision = prepare_torch(c.train)
    with process_group(device):
        method = recipe.method(c)
        method.images_per_forward, method.views_per_forward = c.model.images_per_forward, c.model.views_per_forward
        classes = examine_files(c.data) if c.data.val or needs_labels(c, method) else None
        with (
            GrowingLoader(partial(open_loader, c, device), c.view.size_at) as loader,
            Evaluation(c.data, c.eval, c.view.whole(), device, precision) as evaluation,
            RunRecord(recipe.name, configs, c.train.resume, announce) as record,  # last: what fails leaves no folder
        ):
            return _run(recipe, c, method.to(device), classes, record, loader, evaluation)


def _run(
    recipe: Recipe, c: Configs, method: Method, classes: Classes | None, record: RunRecord, loader: GrowingLoader, evaluation: Evaluation
) -> Result | None:
    """Train and evaluate with what is open."""
    device, precision = evaluation.device, evaluation.precision
    optimizer = build_optimizer(method, c.optim, c.train.batch_size)
    probes = build_probes(c, method, classes if needs_labels(c, method) else None)
    check_classifiers(c, method, evaluation)
    online = partial(score, evaluation, method, probes, evaluation.quick)
    progress = fit(method, loader, optimizer, c.train, c.optim, record, online, c.eval.times, c.data.label, probes, classes)
    if not is_main():
        return None
    begun_at = time.perf_counter()
    with frozen(method):
        scores = score(evaluation, method, probes, evaluation.full)
        if recipe.more_scores is not None:
            scores |= recipe.more_scores(method, c, device, precision)
    if c.data.val:
        scores |= spread_scores(method, c, device, precision)
    note(progress, scores, time.perf_counter() - begun_at)
    export_backbone(method, c, recipe.name, record.folder, progress.step, loader.state_dict()["epoch"])
    counts = {"num_views": c.view.num_views, "steps_per_epoch": len(loader)}
    return finish(record, progress, scores, device=device, precision=precision, classes=classes, **counts)


def check_classifiers(c: Configs, method: Method, evaluation: Evaluation) -> None:
    """Refuse a classifier at the end that needs too much memory; say if one will take hours."""
    evaluation.check_cost(method.backbone.num_features)  # type: ignore[arg-type]
    if "bag" in vars(c) and c.bag.patches:
        evaluation.check_cost(num_patch_features(method))


def open_loader(c: Configs, device: torch.device, size: int) -> Loader:
    """The training loader of views of `size` pixels: bytes, which the model normalizes on its device."""
    views = c.view.pipeline(size, c.view.num_views)
    if c.data.render == "gpu":
        if device.type != "cuda":
            raise ConfigError(f"data.render: views are to be rendered on a GPU, and this run is on the {device.type}. Use data.render=cpu.")
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


def subset(c: Configs) -> np.ndarray | None:
    """Samples to train on: None for all, or a share of them drawn with the run's seed, sorted."""
    if c.data.fraction == 1:
        return None
    return random_samples(c.data.train, max(1, round(c.data.fraction * num_samples(c.data.train))), c.train.seed)
