"""Write .beton files, whole or not at all."""

from ffcv_ssl.beton.writer.dataset_writer import DatasetWriter, WriteReport

__all__ = ["DatasetWriter", "WriteReport"]
