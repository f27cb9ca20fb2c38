"""Fields: what one value of a sample is, how it is stored and how it is read back."""

from ffcv_ssl.fields.base import Encoded, Field

__all__ = ["Encoded", "Field"]
