"""View pipelines of published methods.

Each preset returns a list of transforms for `Loader(pipelines={"image": …})`. All presets share
four parameters: `normalize`, `dtype`, `device` and `render`.

Resizing, jitter, grayscale and solarization match torchvision's PIL backend to one gray level per
operation. The hue matches exact HSV. The blur matches torchvision's `GaussianBlur` on float pixels.
"""

from ffcv_ssl.pipeline.presets.central_crop import plain
from ffcv_ssl.pipeline.presets.patches import emp_ssl
from ffcv_ssl.pipeline.presets.random_crops import (
    augmented,
    barlow_twins,
    byol,
    simclr,
    vicreg,
)
from ffcv_ssl.pipeline.presets.swav import multi_crop

__all__ = [
    "augmented",
    "barlow_twins",
    "byol",
    "emp_ssl",
    "multi_crop",
    "plain",
    "simclr",
    "vicreg",
]
