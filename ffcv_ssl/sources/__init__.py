"""Datasets to convert: image folders, CIFAR, `.npz` files, Tiny ImageNet and indexable objects."""

from ffcv_ssl.sources.catalog import open_source
from ffcv_ssl.sources.config import SourceConfig
from ffcv_ssl.sources.indexed import indexed
from ffcv_ssl.sources.source import Source

__all__ = ["Source", "SourceConfig", "indexed", "open_source"]
