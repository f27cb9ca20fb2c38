"""The loader: batches of views, the same for any number of threads, batch size, rank layout or resume point."""

import functools
import logging
import os
import secrets
import warnings
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from ffcv_ssl.beton.cores import allowed_cores
from ffcv_ssl.beton.reader import CHECKS, BetonReader
from ffcv_ssl.errors import FieldNotFound, LoaderClosed, PipelineError, SampleError
from ffcv_ssl.fields.base import Field
from ffcv_ssl.loader.batch import Batch
from ffcv_ssl.loader.boxes import DECODES
from ffcv_ssl.loader.buffers import BufferPool
from ffcv_ssl.loader.engine import Engine
from ffcv_ssl.loader.epoch import EpochIterator
from ffcv_ssl.loader.order import OrderOption, check_indices, epoch_order, num_batches
from ffcv_ssl.loader.pages import PageLayout, page_layout
from ffcv_ssl.loader.placement import CACHES
from ffcv_ssl.loader.plan import PlanOptions, plan_batches
from ffcv_ssl.loader.state import check_state, identity

logger = logging.getLogger("ffcv_ssl")
ON_ERROR = ("raise", "skip", "substitute")
NOTHING: Mapping = MappingProxyType({})


class Loader:
    """Iterate over the batches of a .beton file.

    Each `iter(loader)` renders epoch `loader.epoch` and adds one to it. An iterator has one consumer. The loader can be pickled: its copy
    opens the file again.

    Parameters
    ----------
    path
        The .beton file.
    batch_size
        Samples per batch and rank.
    num_workers
        Threads that read, decode and render; -1: as many as the process may use cores, 0: the caller's thread.
    order
        `OrderOption.SEQUENTIAL`, `OrderOption.RANDOM`, or `OrderOption.QUASI_RANDOM` for files larger than memory.
    seed
        Of order and augmentations. None draws one (`loader.seed` tells it); an error with several ranks.
    indices
        Samples to use: integers or a bool mask; None for all. With an empty selection the loader has no batch.
    pipelines
        Field → pipeline. Fields that are not named are decoded by default; a field given None is left out. Two stored image fields draw the
        same parameters (as an image and its mask need); a second pipeline over one field draws its own.
    custom_fields
        Field classes of custom fields, by field name.
    custom_field_mapper
        Name in the batch → stored field, for further pipelines over one field (FFCV-SSL); the decode is shared.
    drop_last
        Drop the last, shorter batch.
    batches_ahead
        Batches that are rendered before they are asked for, at least 1.
    rank, world_size
        Which share of every step this process renders; no process group is needed.
    with_ids, with_params
        Add `batch.ids` and `batch.params` (the parameter tables), which are not part of unpacking.
    shuffle_bytes
        Of a quasi-random order: bytes of the file that are in use at a time, two pages at least. Samples are mixed within half of it, while
        the other half is read ahead; more mixes better, as long as it stays in memory. By default 2 GiB, of which the half that is mixed
        holds 128 pages of 8 MiB, or 20,000 photos of 54 kB. Ranks share it: they read from the same pages at the same time.
    cache
        Where decoded images stay between epochs. "os": nowhere, the file's bytes stay in the page cache. "ram": in memory, 3 bytes per
        pixel. "device": on the GPU that renders the views. "auto": there, or else in memory, if they take at most half of what is free,
        else nowhere; the log says what was picked.
    decode
        "exact": of each JPEG the part that the views show, with the pixels of the whole. "full": the whole. "fast": large crops are cut
        from an image scaled by 1/2, 1/4 or 1/8 in the DCT: quicker, and another image (3 to 11 grey levels away on average); needs the
        native decoder.
    check
        "read": compare the stored bytes of every value with the checksum that the file holds for it, each time they are read. A damaged
        value is a SampleError (`on_error`). Files without such checksums, FFCV's among them, get them with `ffcv-ssl seal`. "none": do not.
    on_error
        What to do with a sample that cannot be read: "raise" a SampleError, "skip" it (the batch gets shorter), or "substitute" the
        next readable sample of the order. What was skipped or substituted is logged and listed in `failures`; a batch of which nothing is
        left is passed over. In files without checksums of values, damage in a part of a JPEG that no view shows may go unnoticed,
        unless decode="full", and so may damage that still decodes.

    Attributes
    ----------
    epoch
        The next epoch to render.
    wait_s
        Seconds that the consumer has waited for batches in the current or last epoch.

    Raises
    ------
    BetonFormatError
        If the file is damaged.
    FieldNotFound, PipelineError
        If a pipeline does not fit the file, or an argument is out of range.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        batch_size: int,
        num_workers: int = -1,
        order: OrderOption = OrderOption.SEQUENTIAL,
        seed: int | None = None,
        indices: Sequence[int] | np.ndarray | None = None,
        pipelines: Mapping[str, Sequence[Any] | None] = NOTHING,
        custom_fields: Mapping[str, type[Field]] = NOTHING,
        custom_field_mapper: Mapping[str, str] = NOTHING,
        drop_last: bool = True,
        batches_ahead: int = 3,
        rank: int = 0,
        world_size: int = 1,
        with_ids: bool = False,
        with_params: bool = False,
        on_error: str = "raise",
        shuffle_bytes: int = 2 << 30,
        cache: str = "os",
        decode: str = "exact",
        check: str = "read",
    ):
        self._arguments = {name: value for name, value in locals().items() if name not in ("self", "__class__")}
        self.path = os.fspath(path)
        self._check(batch_size, num_workers, order, seed, batches_ahead, rank, world_size, on_error, shuffle_bytes)
        self._check_choices(on_error, cache, decode, check)
        self.batch_size, self.order, self.batches_ahead = int(batch_size), order, int(batches_ahead)
        self.rank, self.world_size, self.drop_last = int(rank), int(world_size), bool(drop_last)
        self.num_workers = allowed_cores() if num_workers == -1 else num_workers
        self.seed = secrets.randbits(32) if seed is None else int(seed)
        if seed is None:
            logger.info("%s: seed %d was drawn.", self.path, self.seed)
        self.reader = BetonReader(self.path, custom_fields, check)
        try:
            self.indices = check_indices(indices, self.reader.num_samples, self.path)
            options = PlanOptions(self.seed, self.indices, cache, decode, self.world_size, with_ids, with_params, on_error)
            self._plan = plan_batches(self.reader, dict(pipelines), dict(custom_field_mapper), options)
        except BaseException:
            self.reader.close()
            raise
        self.shuffle_bytes = int(shuffle_bytes)
        self.epoch, self.wait_s = 0, 0.0
        self._resume_position = 0
        self._progress = 0, 0  # epoch and position of what was handed out last
        self._pool = BufferPool(keep=batches_ahead + 2)
        self._engine: Engine | None = None
        self._closed = False
        if len(self) == 0:
            ranks = f" and {world_size} ranks" if world_size > 1 else ""
            hint = "; use drop_last=False" if len(self.indices) else ""
            warnings.warn(f"{self.path}: {len(self.indices)} samples in batches of {batch_size}{ranks} leave no batch{hint}.", stacklevel=2)

    def _check(self, batch_size, num_workers, order, seed, batches_ahead, rank, world_size, on_error, shuffle_bytes) -> None:
        """Refuse arguments that are out of range."""
        integers = {
            "batch_size": (batch_size, 1),
            "num_workers": (num_workers, -1),
            "batches_ahead": (batches_ahead, 1),
            "rank": (rank, 0),
            "world_size": (world_size, 1),
            "shuffle_bytes": (shuffle_bytes, 1),
        }
        for name, (value, lowest) in integers.items():
            if not isinstance(value, (int, np.integer)) or value < lowest:
                raise PipelineError(f"{self.path}: {name} is an integer >= {lowest}, got {value!r}.")
        if not isinstance(order, OrderOption):
            raise PipelineError(
                f"{self.path}: order is one of {', '.join(f'OrderOption.{option.name}' for option in OrderOption)}, got {order!r}."
            )
        if rank >= world_size:
            raise PipelineError(f"{self.path}: rank is in 0..world_size - 1, got rank {rank} of {world_size}.")
        if on_error == "skip" and world_size > 1:
            raise PipelineError(f"{self.path}: on_error='skip' would give the ranks batches of different sizes; use 'substitute'.")
        if seed is None and world_size > 1:
            raise PipelineError(f"{self.path}: give all {world_size} ranks the same seed, or they would read different orders.")

    def _check_choices(self, on_error: str, cache: str, decode: str, check: str) -> None:
        """Refuse words that mean nothing, and say what a word costs."""
        choices = {"on_error": (on_error, ON_ERROR), "cache": (cache, CACHES), "decode": (decode, DECODES), "check": (check, CHECKS)}
        for name, (value, allowed) in choices.items():
            if value not in allowed:
                raise PipelineError(f"{self.path}: {name} is one of {', '.join(allowed)}, got {value!r}.")
        if decode == "fast":
            logger.warning("%s: decode='fast' gives other pixels than the exact decode, 3 to 11 grey levels away on average.", self.path)

    def __len__(self) -> int:
        """Number of batches of a whole epoch, the same on every rank."""
        return num_batches(len(self.indices), self.batch_size, self.world_size, self.drop_last)

    def __iter__(self) -> Iterator[Batch]:
        if self._closed:
            raise LoaderClosed(f"{self.path}: the loader is closed.")
        epoch, position = self.epoch, self._resume_position
        self.epoch, self._resume_position = epoch + 1, 0
        self._progress, self.wait_s = (epoch, position), 0.0
        order = epoch_order(self.order, self.indices, self._layout, self.seed, epoch)
        num_steps = num_batches(len(self.indices) - position, self.batch_size, self.world_size, self.drop_last)
        if num_steps == 0:  # a resumed epoch may have less left than one batch
            self._advance(epoch, position, finished=True)
        return EpochIterator(self, epoch, position, order, num_steps)

    @functools.cached_property
    def _layout(self) -> PageLayout | None:
        """Where the samples lie, for a quasi-random order."""
        if self.order is not OrderOption.QUASI_RANDOM:
            return None
        fields = [image.plan.field for image in self._plan.images] + [value.field for value in self._plan.values]
        return page_layout(self.reader, self.indices, fields, self.shuffle_bytes, self.world_size)

    @property
    def failures(self) -> list[SampleError]:
        """Samples that were skipped or substituted so far, each time they were met; `sample_id` and `field` say which."""
        return self._plan.failures

    def _advance(self, epoch: int, position: int, finished: bool) -> None:
        """Note what was handed out."""
        self._progress = (epoch + 1, 0) if finished else (epoch, position)

    def _running_engine(self) -> Engine:
        """Return the threads; they start with the first epoch, and again in a forked child."""
        if self._engine is None or self._engine.pid != os.getpid():
            self._engine = Engine(self.num_workers)
            weakref.finalize(self, self._engine.stop)
        for image in self._plan.images:
            image.prepare(self._engine)
        return self._engine

    def set_epoch(self, epoch: int) -> None:
        """Render `epoch` next, from its beginning; the epoch that a loaded state resumes keeps its position."""
        if int(epoch) == self.epoch and self._resume_position:
            return
        self.epoch, self._resume_position, self._progress = int(epoch), 0, (int(epoch), 0)

    def state_dict(self) -> dict[str, Any]:
        """Return what is needed to go on behind the last batch that was handed out: small, and fit for JSON."""
        epoch, position = self._progress
        return {**identity(self), "epoch": epoch, "position": position, "world_size": self.world_size}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state` was taken; batch size and number of threads may differ, and so may the world size.

        Raises
        ------
        CheckpointError
            If the state belongs to another file, selection, seed or order.
        """
        check_state(state, self)
        self.epoch, self._resume_position = int(state["epoch"]), int(state["position"])
        self._progress = self.epoch, self._resume_position

    def filter(self, field: str, condition: Callable[[np.ndarray], np.ndarray]) -> "Loader":
        """Return a loader over the samples of this one whose value of a scalar field satisfies `condition`.

        `condition` maps the (N,) values to an (N,) bool mask.
        """
        if field not in self.reader.fields:
            raise FieldNotFound(f"{self.path}: no field {field!r}. Fields: {', '.join(self.reader.fields)}.")
        if self.reader.fields[field].pointer_name is not None:
            raise PipelineError(f"{self.path}: filter reads scalar fields, and {field!r} is a {type(self.reader.fields[field]).__name__}.")
        mask = np.asarray(condition(self.reader.records[field][self.indices]))
        if mask.dtype != bool or mask.shape != self.indices.shape:
            raise PipelineError(
                f"{self.path}: filter's condition returns one bool per value, ({len(self.indices)},), got {mask.dtype} {mask.shape}; "
                "combine comparisons as in (x >= 3) & (x < 7)."
            )
        return Loader(**{**self._arguments, "indices": self.indices[mask], "seed": self.seed})

    def close(self) -> None:
        """Stop the threads and close the file; batches that were handed out stay valid."""
        self._closed = True
        if self._engine is not None:
            self._engine.stop()
        self.reader.close()

    def __reduce__(self):
        arguments = {name: dict(value) if isinstance(value, Mapping) else value for name, value in self._arguments.items()}
        return functools.partial(Loader, **{**arguments, "seed": self.seed}), ()

    def __enter__(self) -> "Loader":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __repr__(self) -> str:
        samples = f"{len(self.indices)} samples, {len(self)} batches of {self.batch_size}"
        return f"Loader({self.path!r}: {samples}, {self.order.name}, seed {self.seed})"
