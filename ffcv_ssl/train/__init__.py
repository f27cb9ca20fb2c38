"""Training of a method: loop, configuration, networks, processes and checkpoints."""

from importlib import import_module
from typing import Any

from ffcv_ssl.train.checkpoint import Checkpoint, load_checkpoint
from ffcv_ssl.train.classes import Classes, match_classes
from ffcv_ssl.train.config import (
    DataConfig,
    EvalConfig,
    LogConfig,
    ModelConfig,
    OptimConfig,
    TrainConfig,
    option,
    require,
)
from ffcv_ssl.train.device import pick_device, pick_precision, prepare_torch
from ffcv_ssl.train.distributed import is_main, process_group, rank, rank_batch_size, world_size
from ffcv_ssl.train.growing import GrowingLoader
from ffcv_ssl.train.loop import fit
from ffcv_ssl.train.network import build_backbone, build_normalize, build_optimizer, frozen
from ffcv_ssl.train.progress import Progress
from ffcv_ssl.train.views import CropViews, Views, views_of

__all__ = [
    "Checkpoint",
    "Classes",
    "CropViews",
    "DataConfig",
    "EvalConfig",
    "GrowingLoader",
    "LogConfig",
    "ModelConfig",
    "OptimConfig",
    "Progress",
    "TrainConfig",
    "Views",
    "build_backbone",
    "build_normalize",
    "build_optimizer",
    "fit",
    "frozen",
    "is_main",
    "load_checkpoint",
    "match_classes",
    "option",
    "pick_device",
    "pick_precision",
    "prepare_torch",
    "process_group",
    "rank",
    "rank_batch_size",
    "require",
    "views_of",
    "world_size",
]

# Names that this package exported before version 0.2, and the packages that export them now.
_MOVED = {
    **dict.fromkeys(("Configs", "Recipe", "run"), "ffcv_ssl.recipe"),
    **dict.fromkeys(
        (
            "Evaluation",
            "FinetuneConfig",
            "OnlineProbeConfig",
            "PROTOCOLS",
            "ProbeConfig",
            "Protocol",
            "Trained",
            "backbone_weights",
            "bag_encoder",
            "balanced_subset",
            "examine_files",
            "export_backbone",
            "extract_features",
            "finetune",
            "open_views",
            "probe",
            "raw_pixels",
            "restore",
            "restore_backbone",
            "share_right",
            "spread_scores",
        ),
        "ffcv_ssl.evaluate",
    ),
    **dict.fromkeys(("Result", "RunRecord", "finish", "read_run"), "ffcv_ssl.runs"),
}


def __getattr__(name: str) -> Any:
    """Return a name that has moved to another package."""
    if name in _MOVED:
        return getattr(import_module(_MOVED[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
