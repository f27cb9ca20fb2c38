"""Errors in the queue of batches of FFCV's iterator."""

from collections.abc import Iterator
from queue import Full
from typing import Any

POLL_S = 0.5  # interval between checks whether the iterator was terminated


class RaisingItem:
    """Item of FFCV's queue that raises an error in the thread that requested the batch.

    FFCV unpacks the items of its queue in that thread.
    """

    def __init__(self, error: Exception):
        self.error = error

    def __iter__(self) -> Iterator[Any]:
        raise self.error


def put_unless_terminated(iterator: Any, item: object) -> None:
    """Put an item into the queue of FFCV's iterator unless the iterator was terminated."""
    while not iterator.terminate_event.is_set():
        try:
            iterator.output_queue.put(item, timeout=POLL_S)
        except Full:
            continue
        return
