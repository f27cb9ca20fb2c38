"""First elements of a pipeline, under FFCV's names: how the value of a field is decoded."""

from dataclasses import dataclass

from ffcv_ssl.transforms.crop import CenterCrop, RandomResizedCrop


@dataclass(frozen=True)
class Decoder:
    """Base of the decoders; the loader decodes every field by its own type, so a decoder only says where a pipeline starts."""


@dataclass(frozen=True)
class SimpleRGBImageDecoder(Decoder):
    """Decode an image; a crop follows, unless all images of the file have one size."""


@dataclass(frozen=True)
class IntDecoder(Decoder):
    """Decode an IntField: (B,) int64, or (B, 1) as in FFCV when `ToTensor` follows."""


@dataclass(frozen=True)
class FloatDecoder(Decoder):
    """Decode a FloatField: (B,) float64, or (B, 1) as in FFCV when `ToTensor` follows."""


@dataclass(frozen=True)
class NDArrayDecoder(Decoder):
    """Decode an NDArrayField: (B, *shape)."""


@dataclass(frozen=True)
class TorchTensorDecoder(Decoder):
    """Decode a TorchTensorField: (B, *shape)."""


@dataclass(frozen=True)
class BytesDecoder(Decoder):
    """Decode a BytesField: a list of B `bytes`, each with its own length."""


@dataclass(frozen=True)
class JSONDecoder(Decoder):
    """Decode a JSONField: a list of B values."""


def RandomResizedCropRGBImageDecoder(
    output_size, scale=(0.08, 1.0), ratio=(3 / 4, 4 / 3), **options
) -> RandomResizedCrop:
    """Return `RandomResizedCrop`, with FFCV's order of arguments; here any crop may open a pipeline."""
    return RandomResizedCrop(output_size, scale=scale, ratio=ratio, **options)


def CenterCropRGBImageDecoder(output_size, ratio, **options) -> CenterCrop:
    """Return `CenterCrop`, with FFCV's order of arguments."""
    return CenterCrop(output_size, ratio=ratio, **options)
