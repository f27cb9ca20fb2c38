"""Atomic writing of .beton files."""

from ffcv_ssl.beton.writer.dataset_writer import DatasetWriter, WriteReport

__all__ = ["DatasetWriter", "WriteReport"]
