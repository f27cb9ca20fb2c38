"""Methods, backbones, heads, optimizers, schedules, probes and metrics, in PyTorch."""

from ffcv_ssl.ssl.backbones import BACKBONES, TIMM, backbone, check_backbone_name
from ffcv_ssl.ssl.heads import EmpProjector, byol_predictor, mlp, simclr_projector
from ffcv_ssl.ssl.methods.barlow_twins import (
    BarlowTwins,
    barlow_twins_loss,
    small_projector_off_weight,
)
from ffcv_ssl.ssl.methods.byol import BYOL, byol_loss
from ffcv_ssl.ssl.methods.emp_ssl import (
    EmpSSL,
    emp_ssl_loss,
    largest_coding_rate,
    norm_of_mean,
    total_coding_rate,
)
from ffcv_ssl.ssl.methods.instance_simclr import GaussianNoise, InstanceSimCLR
from ffcv_ssl.ssl.methods.method import Method, Normalize
from ffcv_ssl.ssl.methods.simclr import SimCLR, nt_xent
from ffcv_ssl.ssl.methods.supervised import Supervised
from ffcv_ssl.ssl.methods.vicreg import VICReg, vicreg_loss
from ffcv_ssl.ssl.metrics import alignment, rankme, uniformity
from ffcv_ssl.ssl.optimizers import LARS, parameter_groups
from ffcv_ssl.ssl.probes.offline import LinearProbe, knn_accuracy, knn_predictions, linear_probe
from ffcv_ssl.ssl.probes.online import OnlineProbes
from ffcv_ssl.ssl.resnet import STEMS, ResNet, resnet18, resnet34, resnet50, resnet101
from ffcv_ssl.ssl.schedules import rising_momentum, warmup_cosine

__all__ = [
    "BACKBONES",
    "BYOL",
    "LARS",
    "STEMS",
    "TIMM",
    "BarlowTwins",
    "EmpProjector",
    "EmpSSL",
    "GaussianNoise",
    "InstanceSimCLR",
    "LinearProbe",
    "Method",
    "Normalize",
    "OnlineProbes",
    "ResNet",
    "SimCLR",
    "Supervised",
    "VICReg",
    "alignment",
    "backbone",
    "barlow_twins_loss",
    "byol_loss",
    "byol_predictor",
    "check_backbone_name",
    "emp_ssl_loss",
    "knn_accuracy",
    "knn_predictions",
    "largest_coding_rate",
    "linear_probe",
    "mlp",
    "norm_of_mean",
    "nt_xent",
    "parameter_groups",
    "rankme",
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "rising_momentum",
    "simclr_projector",
    "small_projector_off_weight",
    "total_coding_rate",
    "uniformity",
    "vicreg_loss",
    "warmup_cosine",
]
