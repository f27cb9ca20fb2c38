"""Write a dataset into one .beton file, in several processes, whole or not at all."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from tqdm import tqdm

from ffcv_ssl import __version__
from ffcv_ssl.beton.format.layout import (
    DEFAULT_PAGE_SIZE,
    MAX_PAGE_SIZE,
    MIN_PAGE_SIZE,
    is_page_size,
    record_dtype,
)
from ffcv_ssl.beton.format.metadata import check_metadata
from ffcv_ssl.beton.format.schema import check_fields, dtype_to_json
from ffcv_ssl.beton.writer.assembly import Assembly
from ffcv_ssl.beton.writer.encoding import (
    Batch,
    Job,
    SampleFailed,
    SkippedSample,
    encode_batches,
    warn_of_unused_keys,
)
from ffcv_ssl.beton.writer.skipped import list_bytes
from ffcv_ssl.beton.writer.workers import WorkerPool
from ffcv_ssl.errors import ConfigError, WriteError
from ffcv_ssl.fields.base import Field
from ffcv_ssl.fields.hashing import index_hash
from ffcv_ssl.system.atomic import replacing_with_list, resolve_target
from ffcv_ssl.system.cores import allowed_cores
from ffcv_ssl.system.files import flushing
from ffcv_ssl.system.names import printable
from ffcv_ssl.system.paths import local_path
from ffcv_ssl.system.signals import unwinding_on_signals

_CHUNKS_PER_WORKER = 4  # at least, so that all workers end at about the same time


@dataclass(frozen=True)
class WriteReport:
    """What became of a dataset.

    Parameters
    ----------
    path
        Of the file.
    num_samples
        Samples in the file.
    converted, kept, reencoded, skipped
        Values that fields noted as such (images made JPEG, JPEGs stored as they were, JPEGs encoded again), and samples left out.
    counts
        All notes of the fields with their numbers.
    skipped_samples
        In the order of the dataset as written: (index, path, reason).
    skipped_path
        CSV file that lists them; None if there are none.
    size_bytes, page_size
        Of the file.
    seconds
        Wall time.
    """

    path: str
    num_samples: int
    converted: int
    kept: int
    reencoded: int
    skipped: int
    counts: Mapping[str, int]
    skipped_samples: tuple[SkippedSample, ...]
    skipped_path: str | None
    size_bytes: int
    page_size: int
    seconds: float


class DatasetWriter:
    """Writes datasets to a .beton file. The same input and seed give the same bytes, for any number of workers and any start method.

    Parameters
    ----------
    path
        Of the file; replaced only when everything is written.
    fields
        By name, in the order of the values in a sample. Names are 1 to 16 printable ASCII characters.
    page_size
        Bytes, a power of two from 2**21 to 2**30. A sample larger than a page raises it.
    num_workers
        Processes that encode; -1: as many as cores are allowed, 0: encode in this process.
    seed
        In [0, 2**64): for `shuffle_indices` and for fields that choose at random.
    on_error
        "raise": the first sample that fails ends the conversion. "skip": it is left out, counted and listed in `<path>.skipped.csv`.
    metadata
        Stored with the file, as JSON: "class_names" (a list of strings), "source", and whatever else is useful.
    start_method
        "fork", "spawn", "forkserver"; None: what `multiprocessing` is set to.
    progress
        Whether to show a progress bar on standard error.

    Raises
    ------
    ConfigError
        For an argument out of range.
    FieldError
        If the format cannot hold the fields.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        fields: Mapping[str, Field],
        page_size: int = DEFAULT_PAGE_SIZE,
        num_workers: int = -1,
        *,
        seed: int = 0,
        on_error: Literal["raise", "skip"] = "raise",
        metadata: Mapping[str, Any] | None = None,
        start_method: Literal["fork", "spawn", "forkserver"] | None = None,
        progress: bool = True,
    ):
        self.path = local_path(path)
        self.fields = check_fields(fields)
        if not is_page_size(page_size):
            raise ConfigError(
                f"page_size is a power of two from {MIN_PAGE_SIZE} to {MAX_PAGE_SIZE}, got {page_size}."
            )
        if num_workers < -1:
            raise ConfigError(
                f"num_workers is -1 (all allowed cores), 0 (this process) or more, got {num_workers}."
            )
        if not 0 <= seed < 1 << 64:
            raise ConfigError(f"seed is a number in [0, 2**64), got {seed}.")
        if on_error not in ("raise", "skip"):
            raise ConfigError(f"on_error is 'raise' or 'skip', got {on_error!r}.")
        methods = multiprocessing.get_all_start_methods()
        if start_method is not None and start_method not in methods:
            raise ConfigError(
                f"start_method is None or one of {', '.join(methods)}, got {start_method!r}."
            )
        self.page_size, self.seed, self.on_error = page_size, seed, on_error
        self.num_workers = allowed_cores() if num_workers == -1 else num_workers
        self.metadata = check_metadata(metadata or {})
        self._start_method, self._shows_progress = start_method, progress

    def from_indexed_dataset(
        self,
        dataset: Any,
        indices: Sequence[int] | np.ndarray | None = None,
        chunksize: int = 100,
        shuffle_indices: bool = False,
    ) -> WriteReport:
        """Write the samples of a dataset.

        Parameters
        ----------
        dataset
            Has `__getitem__`, and, unless `indices` are given, `__len__`. Its samples are tuples of one value per field,
            or dicts with the names of the fields among their keys; a warning names the keys that are not written.
        indices
            (N,) which samples to write, in this order; None for all. Left as it is.
        chunksize
            Most samples handed to a worker at a time.
        shuffle_indices
            Write them in an order that depends on the seed alone.

        Raises
        ------
        WriteError
            Naming the sample that failed or the worker that died; its cause is the exception of the dataset or field.
        OSError
            If the disk does not take the file.
        ConfigError
            For indices or a chunk size that make no sense.
        """
        started = time.perf_counter()
        if chunksize < 1:
            raise ConfigError(f"chunksize is at least 1, got {chunksize}.")
        target = resolve_target(self.path)
        list_path = f"{target}.skipped.csv"
        if self.on_error == "skip":
            with suppress(FileNotFoundError):
                os.lstat(list_path)  # a name too long is an error now, not after hours
        resolve_target(list_path)
        job = Job(
            dataset,
            self.fields,
            self._order(dataset, indices, shuffle_indices),
            self.seed,
            self.on_error == "skip",
        )
        # The workers start before there is a file: a process that may not start any, or is ended while it tries, leaves nothing behind.
        with (
            unwinding_on_signals(),
            self._errors_in_words(),
            self._batches(job, chunksize) as batches,
            replacing_with_list(target, list_path) as (descriptor, listed),
        ):
            assembly = Assembly(descriptor, self.fields, len(job.indices), self.page_size)
            self._store(batches, assembly, job, descriptor)
            size, page_size = assembly.finish(self._file_metadata(assembly))
            listed += list_bytes(assembly.skipped)
        notes = assembly.notes
        return WriteReport(
            path=self.path,
            num_samples=assembly.num_samples,
            converted=notes["converted"],
            kept=notes["kept"],
            reencoded=notes["reencoded"],
            skipped=len(assembly.skipped),
            counts=dict(sorted(notes.items())),
            skipped_samples=tuple(assembly.skipped),
            skipped_path=list_path if assembly.skipped else None,
            size_bytes=size,
            page_size=page_size,
            seconds=time.perf_counter() - started,
        )

    def _store(
        self, batches: Iterator[Batch], assembly: Assembly, job: Job, descriptor: int
    ) -> None:
        """Store what the job gives."""
        num_samples, reached, unused_keys = len(job.indices), 0, set[str]()
        # The thread that flushes starts after the workers: a process with threads should not fork.
        with self._progress_bar(num_samples) as bar, flushing(descriptor):
            for batch in batches:
                where = (
                    f"while writing {len(batch.samples)} samples from sample {job.indices[reached]}"
                )
                try:
                    assembly.add(batch)
                except OSError as error:
                    raise OSError(error.errno, f"{error.strerror}, {where}", self.path) from error
                except (TypeError, ValueError, OverflowError) as error:
                    raise WriteError(
                        f"{where}: a field's record does not fit its record type: {error}"
                    ) from error
                reached += len(batch.samples)
                warn_of_unused_keys(self.path, batch, self.fields, unused_keys)
                if assembly.skipped:
                    bar.set_postfix(skipped=len(assembly.skipped), refresh=False)
                bar.update(len(batch.samples))
        if assembly.num_samples == 0:
            first = assembly.skipped[0]
            raise WriteError(
                f"all {num_samples} samples failed; the first was sample {first.index}: {first.reason}"
            )

    @contextmanager
    def _errors_in_words(self) -> Iterator[None]:
        """Put the path and the sample in front of what failed."""
        try:
            yield
        except SampleFailed as failure:
            raise WriteError(f"{self.path}: {failure}") from failure.__cause__
        except WriteError as error:
            raise WriteError(f"{self.path}: {error}") from error.__cause__
        except OSError as error:
            if error.errno is None or error.filename is not None:
                raise
            raise OSError(error.errno, error.strerror, self.path) from error

    @contextmanager
    def _batches(self, job: Job, chunk_size: int) -> Iterator[Iterator[Batch]]:
        """Encoded batches in order, from this process or from a pool that ends with the block."""
        if self.num_workers == 0:
            yield encode_batches(job, 0, len(job.indices), lambda position: None)
            return
        chunk_size = min(
            chunk_size, -(-len(job.indices) // (_CHUNKS_PER_WORKER * self.num_workers))
        )
        num_workers = min(self.num_workers, -(-len(job.indices) // chunk_size))
        pool = WorkerPool(
            job, num_workers, chunk_size, multiprocessing.get_context(self._start_method)
        )
        succeeded = False
        try:
            yield pool.batches()
            succeeded = True
        finally:
            pool.close(at_once=not succeeded)

    def _progress_bar(self, num_samples: int) -> tqdm:
        return _ProgressBar(
            total=num_samples,
            desc=printable(os.path.basename(self.path)),
            unit=" samples",
            disable=not self._shows_progress,
        )

    def _order(
        self, dataset: Any, indices: Sequence[int] | np.ndarray | None, shuffled: bool
    ) -> np.ndarray:
        """The dataset's indices in the order of the file, (N,) int64, checked."""
        length = len(dataset) if hasattr(dataset, "__len__") else None
        if indices is None:
            if length is None:
                raise WriteError(
                    f"{self.path}: the dataset ({type(dataset).__name__}) has no len(); give the indices to write."
                )
            order = np.arange(length)
        else:
            order = np.array(indices)
            if order.ndim != 1 or (order.dtype.kind not in "iu" and order.size):
                raise ConfigError(
                    f"indices are a sequence of integers, got an array of {order.dtype} and shape {order.shape}."
                )
        if order.size == 0:
            raise WriteError(f"{self.path}: there are no samples to write.")
        highest = np.iinfo(np.int64).max if length is None else length - 1
        if order.min() < 0 or order.max() > highest:
            raise ConfigError(
                f"indices go from {order.min()} to {order.max()}; the dataset has 0 to {highest}."
            )
        order = order.astype(np.int64)
        return (
            order[np.argsort(index_hash(self.seed, np.arange(len(order))))] if shuffled else order
        )

    def _file_metadata(self, assembly: Assembly) -> dict[str, Any]:
        """The JSON of the extension block: nothing in it depends on time, machine or number of workers."""
        counts = {
            "samples": assembly.num_samples,
            "skipped": len(assembly.skipped),
            **dict(sorted(assembly.notes.items())),
        }
        return {
            "writer": f"ffcv_ssl {__version__}",
            "seed": self.seed,
            "fields": {name: field.describe() for name, field in self.fields.items()},
            "record": dtype_to_json(record_dtype(self.fields)),
            "counts": counts,
            **self.metadata,
        }


class _ProgressBar(tqdm):
    """tqdm without its monitor thread: a process with threads should not fork."""

    monitor_interval = 0
