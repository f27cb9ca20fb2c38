"""How batches get from a worker to its parent: what they are through a pipe, their bytes through memory that a fork shares.

Bytes that go through the pipe cost as much as all else together where files are kept as they are (2,520 photos, two workers: 0.77 s of CPU
time; this way 0.60 s; 0.42 s without workers; `benchmarks/LOG.md`).
"""

from __future__ import annotations

import mmap
import os
from collections import deque
from contextlib import suppress
from multiprocessing.connection import Connection

from ffcv_ssl.beton.writer.encoding import BATCH_BYTES, Batch

SLOT_BYTES = (
    2 * BATCH_BYTES
)  # batches end when they reach BATCH_BYTES; larger ones, of large samples, take the pipe
NUM_SLOTS = 2  # one being filled, one being emptied
FREED = 0  # message to the worker: the slot that was filled first is free again

Chunk = tuple[int, int]


def shared_slots(forks: bool) -> mmap.mmap | None:
    """Memory for one worker and its parent, of no file and so under no limit of /dev/shm; None for processes that are not forked."""
    return mmap.mmap(-1, NUM_SLOTS * SLOT_BYTES) if forks else None


class _Slots:
    """Slots in their turn; both sides count alike. Without memory no batch fits."""

    def __init__(self, memory: mmap.mmap | None):
        self._memory = memoryview(memory if memory is not None else b"")
        self._turn = 0

    def fit(self, size: int) -> bool:
        """Whether so many bytes go through a slot; otherwise they take the pipe."""
        return size <= SLOT_BYTES <= len(self._memory)

    def next(self, size: int) -> memoryview:
        """The first `size` bytes of the slot whose turn it is."""
        start = self._turn * SLOT_BYTES
        self._turn = (self._turn + 1) % NUM_SLOTS
        return self._memory[start : start + size]


class WorkerEnd:
    """The worker's side: takes chunks, gives batches."""

    def __init__(self, connection: Connection, memory: mmap.mmap | None):
        self._connection, self._slots = connection, _Slots(memory)
        self._free = NUM_SLOTS
        self._chunks: deque[Chunk | None] = deque()

    def next_chunk(self) -> Chunk | None:
        """Wait for the next chunk; None is the last."""
        while not self._chunks:
            self._hear()
        return self._chunks.popleft()

    def send(self, batch: Batch) -> None:
        """Send a batch; waits for a slot if the parent has not emptied one."""
        size = len(batch.payload)
        if not self._slots.fit(size):
            self._connection.send((batch.samples, size, batch.unused_keys))
            view = memoryview(batch.payload)
            while view:
                view = view[os.write(self._connection.fileno(), view) :]
            return
        while not self._free:
            self._hear()
        self._free -= 1
        self._slots.next(size)[:] = batch.payload
        self._connection.send((batch.samples, size, batch.unused_keys))

    def _hear(self) -> None:
        message = self._connection.recv()
        if message == FREED:
            self._free += 1
        else:
            self._chunks.append(message)


class ParentEnd:
    """The parent's side of the same."""

    def __init__(self, connection: Connection, memory: mmap.mmap | None):
        self._connection, self._slots = connection, _Slots(memory)

    def batch(self, message: tuple[list, int, frozenset[str]]) -> Batch:
        """The batch that a message announced, its bytes valid until `free` is called; EOFError if the worker has died on the way."""
        samples, size, unused_keys = message
        payload = self._slots.next(size) if self._slots.fit(size) else self._from_pipe(size)
        return Batch(samples, payload, unused_keys)

    def free(self, batch: Batch) -> None:
        """Give the memory of a batch back to the worker."""
        if self._slots.fit(len(batch.payload)):
            with suppress(OSError):  # a worker that has died needs no slot
                self._connection.send(FREED)

    def _from_pipe(self, size: int) -> bytearray:
        """Bytes straight into their place: `Connection.recv_bytes` takes four times as long."""
        payload = bytearray(size)
        view = memoryview(payload)
        while view:
            count = os.readv(self._connection.fileno(), [view])
            if count == 0:
                raise EOFError
            view = view[count:]
        return payload
