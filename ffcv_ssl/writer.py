"""Door: FFCV's path to the writer."""

from ffcv_ssl.beton.writer.dataset_writer import DatasetWriter, WriteReport

__all__ = ["DatasetWriter", "WriteReport"]
