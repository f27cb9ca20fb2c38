"""Pipelines that both loaders run."""

from ffcv_ssl import views
from ffcv_ssl.transforms import NormalizeImage, RandomResizedCrop

SEED = 11
PIPELINES = {
    "simclr": views.simclr(24),
    "emp_ssl": views.emp_ssl(n=20, patch=16, size=32),
    "normalized": [RandomResizedCrop((17, 21)), NormalizeImage(mean=(124, 116, 104), std=(58, 57, 57))],
}
