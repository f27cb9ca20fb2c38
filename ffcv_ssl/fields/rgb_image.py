"""Door: FFCV's path to the image field."""

from ffcv_ssl.fields.image import RGBImageField

__all__ = ["RGBImageField"]
