"""Re-exports the image field under FFCV's import path."""

from ffcv_ssl.fields.image import RGBImageField

__all__ = ["RGBImageField"]
