"""Evaluation of trained networks: features, published protocols, fine-tuning, export."""

from ffcv_ssl.evaluate.configs import OnlineProbeConfig
from ffcv_ssl.evaluate.encoding import extract_features, share_right
from ffcv_ssl.evaluate.examine import examine_files
from ffcv_ssl.evaluate.export import backbone_weights, export_backbone
from ffcv_ssl.evaluate.features import Evaluation, raw_pixels
from ffcv_ssl.evaluate.finetune import FinetuneConfig, finetune
from ffcv_ssl.evaluate.probing import ProbeConfig, probe
from ffcv_ssl.evaluate.protocol_views import bag_encoder, open_views
from ffcv_ssl.evaluate.protocols import PROTOCOLS, Protocol
from ffcv_ssl.evaluate.restore import Trained, restore, restore_backbone
from ffcv_ssl.evaluate.statistics import spread_scores
from ffcv_ssl.evaluate.subsets import balanced_subset

__all__ = [
    "PROTOCOLS",
    "Evaluation",
    "FinetuneConfig",
    "OnlineProbeConfig",
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
]
