"""The .beton file format: atomic writing, validation on opening, positioned reads, verification."""

from ffcv_ssl.beton.reader import BetonReader
from ffcv_ssl.beton.verify import Problem
from ffcv_ssl.beton.writer.dataset_writer import DatasetWriter, WriteReport

__all__ = ["BetonReader", "DatasetWriter", "Problem", "WriteReport"]
