"""High-throughput image loading for self-supervised learning.

A dataset is written once to a `.beton` file with `DatasetWriter`. `Loader` decodes each image once
and renders all of its augmented views, which `transforms` and the presets in `views` describe.

The names below are imported on first access, so that `import ffcv_ssl` stays fast.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ffcv_ssl import transforms, views
    from ffcv_ssl.loader import Loader
    from ffcv_ssl.reader import Reader
    from ffcv_ssl.writer import DatasetWriter

try:
    __version__ = version("ffcv_ssl")
except PackageNotFoundError:  # a source checkout that was not installed
    __version__ = "0.0.0"

__all__ = ["DatasetWriter", "Loader", "Reader", "__version__", "transforms", "views"]

_CLASSES = {"DatasetWriter": "writer", "Loader": "loader", "Reader": "reader"}
_MODULES = ("transforms", "views")


def __getattr__(name: str) -> Any:
    """Import a public name on first access (PEP 562)."""
    if name in _MODULES:
        return import_module(f"{__name__}.{name}")
    if name not in _CLASSES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_CLASSES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the attributes of the module, including those that are not imported yet."""
    return sorted({*globals(), *__all__})
