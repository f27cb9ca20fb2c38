"""Fields: how the values of a sample are stored and decoded."""

from ffcv_ssl.fields.arrays import NDArrayField, TorchTensorField
from ffcv_ssl.fields.base import Encoded, Field
from ffcv_ssl.fields.bytes import BytesField, JSONField
from ffcv_ssl.fields.image import RGBImageField
from ffcv_ssl.fields.scalars import FloatField, IntField

__all__ = [
    "BytesField",
    "Encoded",
    "Field",
    "FloatField",
    "IntField",
    "JSONField",
    "NDArrayField",
    "RGBImageField",
    "TorchTensorField",
]
