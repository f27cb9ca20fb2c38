"""Door: FFCV's path to the scalar fields."""

from ffcv_ssl.fields.scalars import FloatField, IntField

__all__ = ["FloatField", "IntField"]
