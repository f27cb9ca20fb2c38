"""Re-export of the view presets: the augmentations of published methods."""

from ffcv_ssl.pipeline.presets import (
    augmented,
    barlow_twins,
    byol,
    emp_ssl,
    multi_crop,
    plain,
    simclr,
    vicreg,
)

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
