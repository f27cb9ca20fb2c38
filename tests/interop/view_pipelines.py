"""Pipelines for both loaders."""

from ffcv_ssl import views
from ffcv_ssl.transforms import MultiView, NormalizeImage, RandomResizedCrop, ToDevice

SEED = 11
RESUMED_EPOCH = 40
REPEATED = [3, 3, 7, 3, 12, 7, *range(9, 14), 3, 3, 12]  # more than one batch of samples
PIPELINES = {
    "simclr": views.simclr(24),
    "emp_ssl": views.emp_ssl(n=20, patch=16, size=32),
    "normalized": [
        RandomResizedCrop((17, 21)),
        NormalizeImage(mean=(124, 116, 104), std=(58, 57, 57)),
    ],
    "two sizes": [MultiView([[RandomResizedCrop(8)], [RandomResizedCrop(9)]])],
    "on a device": [RandomResizedCrop(8), ToDevice("cpu")],
    "16-bit floats": [RandomResizedCrop(8), NormalizeImage(mean=0, std=255, type="float16")],
    "no crop": [],
}
