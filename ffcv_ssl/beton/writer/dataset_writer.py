"""Writing of a dataset to one .beton file, in several processes."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
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
    encode_batches,
    warn_of_unused_keys,
)
from ffcv_ssl.beton.writer.order import file_order
from ffcv_ssl.beton.writer.report import WriteReport, skipped_to_csv
from ffcv_ssl.beton.writer.workers import WorkerPool
from ffcv_ssl.errors import ConfigError, WriteError
from ffcv_ssl.fields.base import Field
from ffcv_ssl.system.atomic import replacing_with_list, resolve_target
from ffcv_ssl.system.cores import allowed_cores
from ffcv_ssl.system.files import flushing
from ffcv_ssl.system.names import printable
from ffcv_ssl.system.paths import local_path
from ffcv_ssl.system.signals import unwinding_on_signals

__all__ = ["DatasetWriter", "WriteReport"]

_CHUNKS_PER_WORKER = 4  # minimum, so that all workers finish at about the same time


class DatasetWriter:
    """Writer of datasets to a .beton file.

    The same samples and seed give the same bytes, for any number of workers and any start method.
    The file appears under its path only when it is complete.

    Parameters
    ----------
    path
        Path of the file; `~` is expanded. An existing file is replaced.
    fields
        Fields by name (1 to 16 printable ASCII characters), in the order of the values in a sample.
    page_size
        Page size in bytes, a power of two from 2**21 to 2**30. A sample that is larger than a page
        raises it.
    num_workers
        Number of worker processes. -1 uses every available core; 0 encodes in this process.
    seed
        Seed for `shuffle_indices` and for fields that choose at random, 0 to 2**64 - 1.
    on_error
        "raise" stops at the first sample that fails. "skip" leaves it out, counts it, and lists it
        in `<path>.skipped.csv`.
    metadata
        Entries to store in the file as JSON, for instance "class_names" (a list of strings).
    start_method
        "fork", "spawn" or "forkserver"; None uses the default of `multiprocessing`.
    progress
        Whether to show a progress bar on standard error.

    Raises
    ------
    ConfigError
        If an argument is out of range.
    FieldError
        If the format cannot hold a field.

    Examples
    --------
    >>> import numpy as np
    >>> from ffcv_ssl.fields import IntField, RGBImageField
    >>> from ffcv_ssl.writer import DatasetWriter
    >>> images = np.zeros((3, 32, 48, 3), np.uint8)
    >>> samples = [(image, label) for label, image in enumerate(images)]
    >>> fields = {"image": RGBImageField("raw"), "label": IntField()}
    >>> writer = DatasetWriter("train.beton", fields, num_workers=0, progress=False)
    >>> report = writer.from_indexed_dataset(samples)
    >>> report.num_samples
    3
    """

    def __init__(
        self,
        path: str | bytes | os.PathLike[str],
        fields: Mapping[str, Field],
        page_size: int = DEFAULT_PAGE_SIZE,
        num_workers: int = -1,
        *,
        seed: int = 0,
        on_error: Literal["raise", "skip"] = "raise",
        metadata: Mapping[str, Any] | None = None,
        start_method: Literal["fork", "spawn", "forkserver"] | None = None,
        progress: bool = True,
    ) -> None:
        self.path = local_path(path)
        self.fields = check_fields(fields)
        if not is_page_size(page_size):
            raise ConfigError(
                f"page_size must be a power of two from {MIN_PAGE_SIZE} to {MAX_PAGE_SIZE}, "
                f"got {page_size}."
            )
        if num_workers < -1:
            raise ConfigError(f"num_workers must be at least -1, got {num_workers}.")
        if not 0 <= seed < 1 << 64:
            raise ConfigError(f"seed must be in 0 to 2**64 - 1, got {seed}.")
        if on_error not in ("raise", "skip"):
            raise ConfigError(f"on_error must be 'raise' or 'skip', got {on_error!r}.")
        methods = multiprocessing.get_all_start_methods()
        if start_method is not None and start_method not in methods:
            raise ConfigError(
                f"start_method must be None or one of {', '.join(methods)}, got {start_method!r}."
            )
        self.page_size, self.seed, self.on_error = page_size, seed, on_error
        self.num_workers = allowed_cores() if num_workers == -1 else num_workers
        self.metadata = check_metadata(metadata or {})
        self._start_method, self._progress = start_method, progress

    def from_indexed_dataset(
        self,
        dataset: Any,
        indices: Sequence[int] | NDArray[np.integer] | None = None,
        chunksize: int = 100,
        shuffle_indices: bool = False,
    ) -> WriteReport:
        """Write the samples of a dataset.

        Parameters
        ----------
        dataset
            Object with `__getitem__` and, unless `indices` are given, `__len__`. A sample is a
            tuple with one value per field, or a dict whose keys include the field names; a warning
            lists keys that are not written.
        indices
            (N,) indices to write, in this order; None for all.
        chunksize
            Maximum number of samples sent to a worker at a time, >= 1.
        shuffle_indices
            Whether to write in a random order that depends only on the seed.

        Returns
        -------
        WriteReport
            Counts, size and duration.

        Raises
        ------
        WriteError
            If a sample fails or a worker dies; the message names the sample or the worker. The
            cause is the exception of the dataset or field.
        OSError
            If the file cannot be written.
        ConfigError
            If `indices` or `chunksize` are invalid.
        """
        started = time.perf_counter()
        if chunksize < 1:
            raise ConfigError(f"chunksize must be at least 1, got {chunksize}.")
        target, list_path = self._resolve_targets()
        order = file_order(self.path, dataset, indices, self.seed if shuffle_indices else None)
        job = Job(dataset, self.fields, order, self.seed, self.on_error == "skip")
        # The workers start before the file is created: if they cannot start, no file is left over.
        with (
            unwinding_on_signals(),
            self._path_in_errors(),
            self._batches(job, chunksize) as batches,
            replacing_with_list(target, list_path) as (descriptor, list_content),
        ):
            assembly = Assembly(descriptor, self.fields, len(order), self.page_size)
            self._store(batches, assembly, job, descriptor)
            size, page_size = assembly.finish(self._file_metadata(assembly))
            list_content += skipped_to_csv(assembly.skipped)
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

    def _resolve_targets(self) -> tuple[str, str]:
        """Return the paths of the file and of its list; raise OSError if one is not writable."""
        target = resolve_target(self.path)
        list_path = f"{target}.skipped.csv"
        if self.on_error == "skip":
            with suppress(FileNotFoundError):
                os.lstat(list_path)  # raises now, not after hours, if the name is too long
        resolve_target(list_path)
        return target, list_path

    def _store(
        self, batches: Iterator[Batch], assembly: Assembly, job: Job, descriptor: int
    ) -> None:
        """Store all batches of a job."""
        num_samples, num_received, unused_keys = len(job.indices), 0, set[str]()
        # The flushing thread starts after the workers: a process with threads should not fork.
        with self._progress_bar(num_samples) as bar, flushing(descriptor):
            for batch in batches:
                count, first = len(batch.samples), job.indices[num_received]
                context = f"while writing {count} samples from sample {first}"
                try:
                    assembly.add(batch)
                except OSError as error:
                    raise OSError(error.errno, f"{error.strerror}, {context}", self.path) from error
                except (TypeError, ValueError, OverflowError) as error:
                    raise WriteError(
                        f"{context}: a field's record does not fit its record type: {error}"
                    ) from error
                num_received += count
                warn_of_unused_keys(self.path, batch, self.fields, unused_keys)
                if assembly.skipped:
                    bar.set_postfix(skipped=len(assembly.skipped), refresh=False)
                bar.update(count)
        if assembly.num_samples == 0:
            skipped = assembly.skipped[0]
            raise WriteError(
                f"all {num_samples} samples failed; the first was sample {skipped.index}: "
                f"{skipped.reason}"
            )

    @contextmanager
    def _path_in_errors(self) -> Iterator[None]:
        """Add the path to errors, and convert a failed sample to WriteError."""
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
        """Provide encoded batches in file order, from this process or from a pool of workers."""
        if self.num_workers == 0:
            yield encode_batches(job, 0, len(job.indices), lambda position: None)
            return
        num_samples = len(job.indices)
        chunk_size = min(chunk_size, -(-num_samples // (_CHUNKS_PER_WORKER * self.num_workers)))
        num_workers = min(self.num_workers, -(-num_samples // chunk_size))
        context = multiprocessing.get_context(self._start_method)
        pool = WorkerPool(job, num_workers, chunk_size, context)
        succeeded = False
        try:
            yield pool.batches()
            succeeded = True
        finally:
            pool.close(at_once=not succeeded)

    def _progress_bar(self, num_samples: int) -> tqdm[Any]:
        name = printable(os.path.basename(self.path))
        hidden = not self._progress
        return _ProgressBar(total=num_samples, desc=name, unit=" samples", disable=hidden)

    def _file_metadata(self, assembly: Assembly) -> dict[str, Any]:
        """Return the JSON of the extension block, independent of time, machine and workers."""
        counts = {"samples": assembly.num_samples, "skipped": len(assembly.skipped)}
        return {
            "writer": f"ffcv_ssl {__version__}",
            "seed": self.seed,
            "fields": {name: field.describe() for name, field in self.fields.items()},
            "record": dtype_to_json(record_dtype(self.fields)),
            "counts": {**counts, **dict(sorted(assembly.notes.items()))},
            **self.metadata,
        }


class _ProgressBar(tqdm):  # type: ignore[type-arg]  # generic in its stubs only
    """tqdm without its monitor thread, because a process with threads should not fork."""

    monitor_interval = 0
