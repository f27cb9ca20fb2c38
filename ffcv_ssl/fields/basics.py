"""Door: FFCV's path to the scalar fields and their decoders."""

from ffcv_ssl.fields.scalars import FloatField, IntField
from ffcv_ssl.transforms.decoders import FloatDecoder, IntDecoder

__all__ = ["FloatDecoder", "FloatField", "IntDecoder", "IntField"]
