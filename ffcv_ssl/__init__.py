"""Feed images to self-supervised learning: one `.beton` file, many augmented views from one decode."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("ffcv_ssl")
except PackageNotFoundError:  # a checkout that was never installed
    __version__ = "0.0.0"

__all__ = ["__version__"]
