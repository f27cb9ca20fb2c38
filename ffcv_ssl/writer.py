"""Re-export of `DatasetWriter` and `WriteReport` under FFCV's import path."""

from ffcv_ssl.beton.writer.dataset_writer import DatasetWriter, WriteReport

__all__ = ["DatasetWriter", "WriteReport"]
