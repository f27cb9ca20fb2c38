"""Augmentations: frozen dataclasses that hold numbers and draw parameters."""

from ffcv_ssl.transforms.base import SampleTransform
from ffcv_ssl.transforms.blur import GaussianBlur
from ffcv_ssl.transforms.color import RandomColorJitter, RandomGrayscale, RandomSolarization
from ffcv_ssl.transforms.crop import CenterCrop, RandomResizedCrop, Resize
from ffcv_ssl.transforms.flip import RandomHorizontalFlip
from ffcv_ssl.transforms.multi_view import MultiView
from ffcv_ssl.transforms.normalize import NormalizeImage
from ffcv_ssl.transforms.patch_crop import FixedPatchCrop, RandomPatchCrop
from ffcv_ssl.transforms.stages import (
    Convert,
    ModuleWrapper,
    Squeeze,
    ToDevice,
    ToTensor,
    ToTorchImage,
)

__all__ = [
    "CenterCrop",
    "Convert",
    "FixedPatchCrop",
    "GaussianBlur",
    "ModuleWrapper",
    "MultiView",
    "NormalizeImage",
    "RandomColorJitter",
    "RandomGrayscale",
    "RandomHorizontalFlip",
    "RandomPatchCrop",
    "RandomResizedCrop",
    "RandomSolarization",
    "Resize",
    "SampleTransform",
    "Squeeze",
    "ToDevice",
    "ToTensor",
    "ToTorchImage",
]
