"""The one loop all methods share, its configuration, checkpoints, records and evaluation."""

from ffcv_ssl.train.build import build_backbone, build_normalize, build_optimizer
from ffcv_ssl.train.checkpoint import Checkpoint, Progress, load_checkpoint
from ffcv_ssl.train.config import DataConfig, EvalConfig, LogConfig, ModelConfig, OptimConfig, TrainConfig, option, require
from ffcv_ssl.train.device import pick_device, pick_precision, prepare_torch
from ffcv_ssl.train.distributed import is_main, process_group, rank, rank_batch_size, world_size
from ffcv_ssl.train.evaluate import Evaluation, extract_features, frozen, raw_pixels, share_right
from ffcv_ssl.train.examine import examine_files
from ffcv_ssl.train.export import backbone_weights, export_backbone
from ffcv_ssl.train.finetune import FinetuneConfig, finetune
from ffcv_ssl.train.labels import Classes, match_classes
from ffcv_ssl.train.loop import fit
from ffcv_ssl.train.online import OnlineProbeConfig
from ffcv_ssl.train.protocols import PROTOCOLS, ProbeConfig, Protocol, bag_encoder, balanced_subset, open_views, probe
from ffcv_ssl.train.recipe import Configs, Recipe, run
from ffcv_ssl.train.record import RunRecord
from ffcv_ssl.train.restore import Trained, read_run, restore, restore_backbone
from ffcv_ssl.train.result import Result, finish
from ffcv_ssl.train.spread import spread_scores
from ffcv_ssl.train.views import CropViews, GrowingLoader, Views

__all__ = [
    "PROTOCOLS",
    "Checkpoint",
    "Classes",
    "Configs",
    "CropViews",
    "DataConfig",
    "EvalConfig",
    "Evaluation",
    "FinetuneConfig",
    "GrowingLoader",
    "LogConfig",
    "ModelConfig",
    "OnlineProbeConfig",
    "OptimConfig",
    "ProbeConfig",
    "Progress",
    "Protocol",
    "Recipe",
    "Result",
    "RunRecord",
    "TrainConfig",
    "Trained",
    "Views",
    "backbone_weights",
    "bag_encoder",
    "balanced_subset",
    "build_backbone",
    "build_normalize",
    "build_optimizer",
    "examine_files",
    "export_backbone",
    "extract_features",
    "finetune",
    "finish",
    "fit",
    "frozen",
    "is_main",
    "load_checkpoint",
    "match_classes",
    "open_views",
    "option",
    "pick_device",
    "pick_precision",
    "prepare_torch",
    "probe",
    "process_group",
    "rank",
    "rank_batch_size",
    "raw_pixels",
    "read_run",
    "require",
    "restore",
    "restore_backbone",
    "run",
    "share_right",
    "spread_scores",
    "world_size",
]
