"""Door: the view presets."""

from ffcv_ssl.pipeline.presets import barlow_twins, byol, emp_ssl, multi_crop, plain, simclr, vicreg

__all__ = ["barlow_twins", "byol", "emp_ssl", "multi_crop", "plain", "simclr", "vicreg"]
