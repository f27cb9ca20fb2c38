"""The .beton file: written whole or not at all, checked when opened, read by position."""

from ffcv_ssl.beton.reader import BetonReader
from ffcv_ssl.beton.verify import Problem
from ffcv_ssl.beton.writer.dataset_writer import DatasetWriter, WriteReport

__all__ = ["BetonReader", "DatasetWriter", "Problem", "WriteReport"]
