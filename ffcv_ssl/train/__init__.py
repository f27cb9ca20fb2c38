"""The one loop all methods share, its configuration, checkpoints, records and evaluation."""

from ffcv_ssl.train.build import build_backbone, build_normalize, build_optimizer
from ffcv_ssl.train.checkpoint import Checkpoint, Progress, load_checkpoint
from ffcv_ssl.train.config import DataConfig, EvalConfig, LogConfig, ModelConfig, OptimConfig, TrainConfig, option, require
from ffcv_ssl.train.device import pick_device, pick_precision, prepare_torch
from ffcv_ssl.train.distributed import is_main, process_group, rank, rank_batch_size, world_size
from ffcv_ssl.train.evaluate import Evaluation, extract_features, frozen, raw_pixels
from ffcv_ssl.train.loop import fit
from ffcv_ssl.train.online import ProbeConfig
from ffcv_ssl.train.recipe import Configs, Recipe, run
from ffcv_ssl.train.record import RunRecord
from ffcv_ssl.train.result import Result, finish
from ffcv_ssl.train.views import CropViews, GrowingLoader, Views

__all__ = [
    "Checkpoint",
    "Configs",
    "CropViews",
    "DataConfig",
    "EvalConfig",
    "Evaluation",
    "GrowingLoader",
    "LogConfig",
    "ModelConfig",
    "OptimConfig",
    "ProbeConfig",
    "Progress",
    "Recipe",
    "Result",
    "RunRecord",
    "TrainConfig",
    "Views",
    "build_backbone",
    "build_normalize",
    "build_optimizer",
    "extract_features",
    "finish",
    "fit",
    "frozen",
    "is_main",
    "load_checkpoint",
    "option",
    "pick_device",
    "pick_precision",
    "prepare_torch",
    "process_group",
    "rank",
    "rank_batch_size",
    "raw_pixels",
    "require",
    "run",
    "world_size",
]
