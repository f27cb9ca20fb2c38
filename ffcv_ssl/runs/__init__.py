"""Files in the folder of a run: configuration, tables, curves, result."""

from ffcv_ssl.runs.record import RunRecord
from ffcv_ssl.runs.result import Result, finish
from ffcv_ssl.runs.saved_config import read_run

__all__ = [
    "Result",
    "RunRecord",
    "finish",
    "read_run",
]
