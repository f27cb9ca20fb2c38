"""Re-export of `BetonReader` under FFCV's import path and name."""

from ffcv_ssl.beton.reader import BetonReader as Reader

__all__ = ["Reader"]
