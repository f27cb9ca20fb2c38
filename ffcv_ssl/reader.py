"""Door: FFCV's path to the reader."""

from ffcv_ssl.beton.reader import BetonReader as Reader

__all__ = ["Reader"]
