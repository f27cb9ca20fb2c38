"""Decoders under FFCV's names. They may open a pipeline and state the type of its field."""

from dataclasses import dataclass
from typing import Any

from ffcv_ssl.transforms.crop import CenterCrop, RandomResizedCrop


@dataclass(frozen=True)
class Decoder:
    """Base of the decoders.

    The loader decodes every field by its own type. A decoder therefore has no effect except that it
    must be the first element of a pipeline.
    """


@dataclass(frozen=True)
class SimpleRGBImageDecoder(Decoder):
    """Decoder of an RGBImageField. A crop must follow unless all images have the same size.

    Examples
    --------
    >>> from ffcv_ssl.fields.decoders import SimpleRGBImageDecoder
    >>> from ffcv_ssl.transforms import CenterCrop
    >>> pipeline = [SimpleRGBImageDecoder(), CenterCrop(224)]
    """


@dataclass(frozen=True)
class IntDecoder(Decoder):
    """Decoder of an IntField: (B,) int64; with `ToTensor`, (B, 1) as in FFCV."""


@dataclass(frozen=True)
class FloatDecoder(Decoder):
    """Decoder of a FloatField: (B,) float64; with `ToTensor`, (B, 1) as in FFCV."""


@dataclass(frozen=True)
class NDArrayDecoder(Decoder):
    """Decoder of an NDArrayField: (B, *shape)."""


@dataclass(frozen=True)
class TorchTensorDecoder(Decoder):
    """Decoder of a TorchTensorField: (B, *shape)."""


@dataclass(frozen=True)
class BytesDecoder(Decoder):
    """Decoder of a BytesField: a list of B `bytes` objects of any lengths."""


@dataclass(frozen=True)
class JSONDecoder(Decoder):
    """Decoder of a JSONField: a list of B Python values."""


def RandomResizedCropRGBImageDecoder(
    output_size: int | tuple[int, int],
    scale: tuple[float, float] = (0.08, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
    **options: Any,
) -> RandomResizedCrop:
    """Return a `RandomResizedCrop`; FFCV's name and order of arguments.

    Parameters
    ----------
    output_size
        Height and width of the view in pixels, each in 1..4096. One integer makes the view square.
    scale
        Range (low, high) of the box's area as a fraction of the image's area, within [0, 1].
    ratio
        Range (low, high) of the box's width / height, within [0.001, 1000].
    **options
        Other parameters of `RandomResizedCrop`.

    Raises
    ------
    PipelineError
        If a value is out of range.

    Examples
    --------
    >>> from ffcv_ssl.fields.decoders import RandomResizedCropRGBImageDecoder
    >>> RandomResizedCropRGBImageDecoder((224, 224)).size
    (224, 224)
    """
    return RandomResizedCrop(output_size, scale=scale, ratio=ratio, **options)


def CenterCropRGBImageDecoder(
    output_size: int | tuple[int, int], ratio: float, **options: Any
) -> CenterCrop:
    """Return a `CenterCrop`; FFCV's name and order of arguments.

    Parameters
    ----------
    output_size
        Height and width of the view in pixels, each in 1..4096. One integer makes the view square.
    ratio
        Side of the square, as a fraction of the image's shorter side, in (0, 1].
    **options
        Other parameters of `CenterCrop`.

    Raises
    ------
    PipelineError
        If a value is out of range.

    Examples
    --------
    >>> from ffcv_ssl.fields.decoders import CenterCropRGBImageDecoder
    >>> CenterCropRGBImageDecoder((224, 224), ratio=224 / 256).ratio
    0.875
    """
    return CenterCrop(output_size, ratio=ratio, **options)
