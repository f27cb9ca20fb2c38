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

from ffcv_ssl.beton.reader import BetonReader
from ffcv_ssl.errors import LoaderClosed, PipelineError, SampleError
from ffcv_ssl.fields.base import Field
from ffcv_ssl.loader.arguments import check_arguments, own
from ffcv_ssl.loader.batch import Batch
from ffcv_ssl.loader.engine.buffers import BufferPool
from ffcv_ssl.loader.engine.epoch import Delivery, EpochIterator, Progress
from ffcv_ssl.loader.engine.threads import Engine
from ffcv_ssl.loader.order.epoch_order import (
    OrderOption,
    Selection,
    check_indices,
    epoch_order,
    num_batches,
)
from ffcv_ssl.loader.order.page_order import PageLayout, page_layout
from ffcv_ssl.loader.order.sampling import chosen_samples, has_repeats, plan_weights
from ffcv_ssl.loader.plan import PlanOptions, plan_batches
from ffcv_ssl.loader.state import check_state, identity
from ffcv_ssl.system.cores import allowed_cores
from ffcv_ssl.system.files import absolute

logger = logging.getLogger("ffcv_ssl")
NOTHING: Mapping = MappingProxyType({})


class Loader:
    """Iterate over the batches of a .beton file.

    Each `iter(loader)` renders epoch `loader.epoch` and adds one to it. An iterator has one
    consumer. The loader can be copied and pickled, also into a process with another working
    directory. The copy opens the file again and goes on where the loader would. A running iterator
    stays with its loader.

    Parameters
    ----------
    path
        The .beton file. `loader.path` is absolute.
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
        A sample that stands there k times comes k times in an epoch, each time with other views.
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
        next readable sample of the order, with views that it has nowhere else in the epoch.
        What was skipped or substituted is logged and listed in `failures`; a batch of which nothing
        is left is passed over. In files without checksums of values, damage in a part of a JPEG that no view shows may go unnoticed,
        unless decode="full", and so may damage that still decodes.
    weights
        (N,) numbers >= 0, one for each selected sample (each entry of `indices`). An epoch is N
        draws with replacement, in proportion to the weights; seed and epoch determine them. Each
        draw of a sample gets other views. The order is RANDOM, or QUASI_RANDOM, which sorts the
        same draws by page; SEQUENTIAL is refused.
    balanced
        Name of a scalar field of integers, for instance "label". Samples are drawn as with
        `weights`, such that all classes that occur among the selected samples are equally likely.
        Not together with `weights`.

    Attributes
    ----------
    epoch
        The next epoch to render.

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
        *,
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
        weights: Sequence[float] | np.ndarray | None = None,
        balanced: str | None = None,
    ):
        arguments = {
            name: value for name, value in locals().items() if name not in ("self", "__class__")
        }
        self.path = absolute(path)
        check_arguments(self.path, arguments)
        self.batch_size, self.order, self.batches_ahead = int(batch_size), order, int(batches_ahead)
        self.rank, self.world_size, self.drop_last = int(rank), int(world_size), bool(drop_last)
        self.num_workers = allowed_cores() if num_workers == -1 else num_workers
        self.seed = secrets.randbits(32) if seed is None else int(seed)
        if seed is None:
            logger.info("%s: seed %d was drawn.", self.path, self.seed)
        self.reader = BetonReader(self.path, custom_fields, check)
        try:
            self.indices = check_indices(indices, self.reader.num_samples, self.path)
            drawn = plan_weights(self.reader, self.indices, weights, balanced)
            repeats = drawn is not None or (indices is not None and has_repeats(self.indices))
            self._selection = Selection(self.indices, drawn, repeats)
            options = PlanOptions(
                self.seed,
                self.indices,
                cache,
                decode,
                self.world_size,
                with_ids,
                with_params,
                on_error,
            )
            self._plan = plan_batches(
                self.reader, dict(pipelines), dict(custom_field_mapper), options
            )
        except BaseException:
            self.reader.close()
            raise
        fixed = {"path": self.path, "seed": self.seed, "weights": drawn.given if drawn else None}
        fixed["indices"] = None if indices is None else self.indices
        self._arguments = own(arguments) | fixed  # those of a copy
        self.shuffle_bytes = int(shuffle_bytes)
        self.epoch = 0
        self._resume_position = 0
        self._progress = Progress()
        pool = BufferPool(keep=batches_ahead + 2)
        self._delivery = Delivery(
            self.reader,
            self._plan,
            pool,
            self.batch_size,
            self.rank,
            self.world_size,
            self.batches_ahead,
        )
        self._engine: Engine | None = None
        self._closed = False
        if len(self) == 0:
            ranks = f" and {world_size} ranks" if world_size > 1 else ""
            hint = "; use drop_last=False" if len(self.indices) else ""
            warnings.warn(
                f"{self.path}: {len(self.indices)} samples in batches of {batch_size}{ranks} leave no batch{hint}.",
                stacklevel=2,
            )

    def __len__(self) -> int:
        """Number of batches of a whole epoch, the same on every rank."""
        return num_batches(len(self.indices), self.batch_size, self.world_size, self.drop_last)

    def __iter__(self) -> Iterator[Batch]:
        if self._closed:
            raise LoaderClosed(f"{self.path}: the loader is closed.")
        epoch, position = self.epoch, self._resume_position
        self.epoch, self._resume_position = epoch + 1, 0
        self._progress = Progress(epoch, position)
        order = epoch_order(self.order, self._selection, self._layout, self.seed, epoch)
        num_steps = num_batches(
            len(self.indices) - position, self.batch_size, self.world_size, self.drop_last
        )
        if num_steps == 0:  # a resumed epoch may have less left than one batch
            self._progress = Progress(epoch + 1)
        engine, progress = self._running_engine(), self._progress
        return EpochIterator(
            self._delivery, engine, order, epoch, position, num_steps, progress, self
        )

    @functools.cached_property
    def _layout(self) -> PageLayout | None:
        """Where the samples lie, for a quasi-random order."""
        if self.order is not OrderOption.QUASI_RANDOM:
            return None
        fields = [image.plan.field for image in self._plan.images] + [
            value.field for value in self._plan.values
        ]
        return page_layout(self.reader, self.indices, fields, self.shuffle_bytes, self.world_size)

    @property
    def failures(self) -> list[SampleError]:
        """Samples that were skipped or substituted so far, each time they were met; `sample_id` and `field` say which."""
        return self._plan.failures

    @property
    def wait_s(self) -> float:
        """Seconds that the consumer has waited for batches in the current or last epoch."""
        return self._progress.wait_s

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
        self._go_on(int(epoch), 0)

    def _go_on(self, epoch: int, position: int) -> None:
        """Begin the next iteration at a position of an epoch."""
        self.epoch, self._resume_position, self._progress = (
            epoch,
            position,
            Progress(epoch, position),
        )

    def state_dict(self) -> dict[str, Any]:
        """Return what is needed to go on behind the last batch that was handed out: small, and fit for JSON."""
        progress = {"epoch": self._progress.epoch, "position": self._progress.position}
        return {**self._identity(), **progress, "world_size": self.world_size}

    def _identity(self) -> dict[str, Any]:
        """What a saved state and the loader that goes on from it have in common."""
        return identity(self.reader, self._selection, self.seed, self.order, self.shuffle_bytes)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state` was taken; batch size and number of threads may differ, and so may the world size.

        Raises
        ------
        CheckpointError
            If the state belongs to another file, selection, seed or order, or to other weights.
        """
        check_state(state, self._identity(), len(self.indices), self.path)
        self._go_on(int(state["epoch"]), int(state["position"]))

    def filter(self, field: str, condition: Callable[[np.ndarray], np.ndarray]) -> "Loader":
        """Return a loader over the samples of this one whose value of a scalar field satisfies `condition`.

        `condition` maps the (N,) values to an (N,) bool mask. Samples keep their weights; with
        `balanced`, the classes that are left are equally likely. The new loader begins with epoch
        `loader.epoch`. The position of a loaded state means nothing in another selection: filter
        raises PipelineError then, unless `condition` holds for every sample.
        """
        mask = chosen_samples(self.reader, self.indices, field, condition)
        if self._resume_position and not mask.all():
            raise PipelineError(
                f"{self.path}: this loader resumes epoch {self.epoch} at position "
                f"{self._resume_position}, which means nothing among the samples that filter keeps. "
                "Filter before a state is loaded, and load a state of the filtered loader."
            )
        weights = self._arguments["weights"]
        weights = weights if weights is None else weights[mask]
        kept = {"indices": self.indices[mask], "weights": weights}
        loader = Loader(**{**self._arguments, **kept})
        loader._go_on(self.epoch, self._resume_position)
        return loader

    def close(self) -> None:
        """Stop the threads and close the file; batches that were handed out stay valid."""
        self._closed = True
        if self._engine is not None:
            self._engine.stop()
        self.reader.close()

    def __reduce__(self):
        return _reopened, (self._arguments, self.state_dict(), self.epoch, self._resume_position)

    def __enter__(self) -> "Loader":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __repr__(self) -> str:
        samples = f"{len(self.indices)} samples, {len(self)} batches of {self.batch_size}"
        return f"Loader({self.path!r}: {samples}, {self.order.name}, seed {self.seed})"


def _reopened(arguments: dict, state: dict, epoch: int, position: int) -> Loader:
    """Return the copy of a loader; CheckpointError if the file is another by now."""
    loader = Loader(**arguments)
    loader.load_state_dict(state)  # what `state_dict()` says
    loader.epoch, loader._resume_position = epoch, position  # what `iter()` begins with
    return loader
