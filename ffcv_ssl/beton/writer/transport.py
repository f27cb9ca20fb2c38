"""Transfer of batches from a worker to its parent: a pipe, and memory that a forked worker shares.

Stored bytes go through shared memory where possible. For JPEGs stored as they are, copying them
through the pipe costs as much as everything else (2,520 photos, two workers: 0.77 s of CPU time
through the pipe, 0.60 s through shared memory, 0.42 s without workers; `benchmarks/LOG.md`).
"""

from __future__ import annotations

import mmap
import os
from collections import deque
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

from ffcv_ssl.beton.writer.encoding import BATCH_BYTES, Batch

SLOT_BYTES = 2 * BATCH_BYTES  # a batch ends at BATCH_BYTES; one of large samples takes the pipe
NUM_SLOTS = 2  # one is filled while the other is emptied
SLOT_FREED = 0  # message to the worker: the slot that was filled first is free again

Chunk = tuple[int, int]  # start and stop of a range of positions in the file


def shared_slots(forks: bool) -> mmap.mmap | None:
    """Allocate memory that a worker and its parent share; None if the worker is not forked.

    The memory is anonymous, so the size limit of /dev/shm does not apply.

    Parameters
    ----------
    forks
        Whether the start method is "fork".
    """
    return mmap.mmap(-1, NUM_SLOTS * SLOT_BYTES) if forks else None


class _Slots:
    """Slots of shared memory, used in turn by both sides. Without memory no batch fits."""

    def __init__(self, memory: mmap.mmap | None) -> None:
        self._memory = memoryview(memory if memory is not None else b"")
        self._next_slot = 0

    def fit(self, size: int) -> bool:
        """Return whether `size` bytes go through a slot; otherwise they take the pipe."""
        return size <= SLOT_BYTES <= len(self._memory)

    def next(self, size: int) -> memoryview:
        """Return the first `size` bytes of the next slot."""
        start = self._next_slot * SLOT_BYTES
        self._next_slot = (self._next_slot + 1) % NUM_SLOTS
        return self._memory[start : start + size]


class WorkerEnd:
    """Worker's end of the connection: receives chunks and sends batches.

    Parameters
    ----------
    connection
        Pipe to the parent.
    memory
        Memory from `shared_slots`.
    """

    def __init__(self, connection: Connection, memory: mmap.mmap | None) -> None:
        self._connection, self._slots = connection, _Slots(memory)
        self._num_free = NUM_SLOTS
        self._chunks: deque[Chunk | None] = deque()

    def next_chunk(self) -> Chunk | None:
        """Wait for the next chunk and return it; None means that there are no more."""
        while not self._chunks:
            self._receive()
        return self._chunks.popleft()

    def send(self, batch: Batch) -> None:
        """Send a batch; wait until the parent has freed a slot if none is free."""
        size = len(batch.payload)
        if not self._slots.fit(size):
            self._connection.send((batch.samples, size, batch.unused_keys))
            view = memoryview(batch.payload)
            while view:
                view = view[os.write(self._connection.fileno(), view) :]
            return
        while not self._num_free:
            self._receive()
        self._num_free -= 1
        self._slots.next(size)[:] = batch.payload
        self._connection.send((batch.samples, size, batch.unused_keys))

    def _receive(self) -> None:
        message = self._connection.recv()
        if message == SLOT_FREED:
            self._num_free += 1
        else:
            self._chunks.append(message)


class ParentEnd:
    """Parent's end of the connection: receives batches and frees their memory.

    Parameters
    ----------
    connection
        Pipe to the worker.
    memory
        Memory from `shared_slots`.
    """

    def __init__(self, connection: Connection, memory: mmap.mmap | None) -> None:
        self._connection, self._slots = connection, _Slots(memory)

    def batch(self, message: tuple[list[Any], int, frozenset[str]]) -> Batch:
        """Return the batch that a message announces; its bytes are valid until `free` is called.

        Raise EOFError if the worker dies during the transfer.
        """
        samples, size, unused_keys = message
        payload = self._slots.next(size) if self._slots.fit(size) else self._from_pipe(size)
        return Batch(samples, payload, unused_keys)

    def free(self, batch: Batch) -> None:
        """Return the memory of a batch to the worker."""
        if self._slots.fit(len(batch.payload)):
            with suppress(OSError):  # the worker has died and needs no slot
                self._connection.send(SLOT_FREED)

    def _from_pipe(self, size: int) -> bytearray:
        """Read bytes from the pipe in place; `Connection.recv_bytes` takes four times as long."""
        payload = bytearray(size)
        view = memoryview(payload)
        while view:
            count = os.readv(self._connection.fileno(), [view])
            if count == 0:
                raise EOFError
            view = view[count:]
        return payload
