"""Re-exports the scalar fields and their decoders under FFCV's import path."""

from ffcv_ssl.fields.scalars import FloatField, IntField
from ffcv_ssl.transforms.decoders import FloatDecoder, IntDecoder

__all__ = ["FloatDecoder", "FloatField", "IntDecoder", "IntField"]
