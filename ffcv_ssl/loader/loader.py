"""The loader: batches of augmented views of the images of a .beton file."""

import logging
import os
import secrets
import warnings
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ffcv_ssl.errors import LoaderClosed, SampleError
from ffcv_ssl.fields.base import Field
from ffcv_ssl.loader.arguments import check_arguments, copy_arguments, explain_emptiness
from ffcv_ssl.loader.batch import Batch
from ffcv_ssl.loader.engine.buffers import BufferPool
from ffcv_ssl.loader.engine.epoch import EpochContext, EpochIterator, Progress
from ffcv_ssl.loader.engine.threads import Engine
from ffcv_ssl.loader.opened_file import open_file
from ffcv_ssl.loader.order.epoch_order import OrderOption, num_batches
from ffcv_ssl.loader.order.sampling import matching_samples
from ffcv_ssl.loader.resumable import Resumable
from ffcv_ssl.system.cores import allowed_cores
from ffcv_ssl.system.files import absolute

logger = logging.getLogger("ffcv_ssl")
EMPTY: Mapping[str, Any] = MappingProxyType({})


class Loader(Resumable):
    """Iterable over the batches of a .beton file.

    Each `iter(loader)` starts epoch `loader.epoch` and increments it. The views of a sample depend
    only on `seed`, the epoch and the sample: they are the same for any number of threads, batch
    size, number of ranks and resume point.

    One consumer may use an iterator. A loader can be copied and pickled, also into a process with
    another working directory. The copy opens the file again and continues where the loader would.

    Parameters
    ----------
    path
        Path of the .beton file.
    batch_size
        Number of samples per batch and rank, >= 1.
    num_workers
        Number of worker threads. -1 uses every core available to the process; 0 runs in the
        calling thread.
    order
        Order of the samples. Use `QUASI_RANDOM` for files larger than memory.
    seed
        Seed of order and augmentations, an integer. None draws one, which `loader.seed` returns;
        with several ranks a seed is required.
    indices
        Samples to use: (N,) integers, or a bool mask with one entry per sample of the file. None
        uses all. An index that occurs k times occurs k times per epoch, with other views each time.
    pipelines
        Field of the batch → list of transforms. A field without a pipeline is decoded; None leaves
        it out. Two stored image fields, such as an image and its mask, draw the same parameters.
    custom_fields
        Field name → field class, for fields of types that `ffcv_ssl.fields` does not define.
    custom_field_mapper
        Field of the batch → stored field, for further pipelines over a stored field. They share the
        decoded image and draw their own parameters.
    drop_last
        Whether to drop the last batch if it is shorter.
    batches_ahead
        Number of batches to render ahead of the consumer, >= 1.
    rank, world_size
        Number of this process, and number of processes that share each epoch. No process group is
        needed.
    with_ids, with_params
        Whether batches have the attribute `ids`, or `params` with the augmentation parameters.
    on_error
        How to handle a sample that cannot be read. "raise" raises SampleError. "skip" leaves it
        out, so the batch is shorter; a batch without samples is left out too. "substitute" uses the
        next readable sample of the order, with views that are unique in the epoch. The loader logs
        skipped and substituted samples and lists them in `failures`.
    shuffle_bytes
        Bytes of the file in use at a time with a quasi-random order, at least two pages; 2 GiB by
        default. Samples are shuffled within half of them, while the other half is read ahead. Half
        of 2 GiB holds 20,000 photos of 54 kB. All ranks use the same pages at the same time.
    cache
        Where to keep decoded images between epochs. "os": nowhere; the file's bytes stay in the
        page cache of the operating system. "ram": in memory, 3 bytes per pixel. "device": on the
        GPU that renders the views. "auto": as "device", else as "ram", if the images take at most
        half of the free memory there; else as "os". The loader logs the choice.
    decode
        "exact": decode the part of each JPEG that the views need; the pixels are those of a full
        decode. "full": decode whole images. "fast": read large crops from the image scaled by 1/2,
        1/4 or 1/8 in the DCT. This needs the native decoder and changes pixels by 3 to 11 gray
        levels on average.
    check
        "read": compare the stored bytes of each value with their checksum whenever they are read. A
        mismatch is a SampleError. "none": do not. `ffcv-ssl seal` adds checksums to files without
        them, such as files of FFCV; before, damage that still decodes may go unnoticed.
    weights
        (N,) finite numbers >= 0, one for each selected sample. An epoch consists of N draws with
        replacement, in proportion to the weights; each draw has other views. The order must be
        `RANDOM`, or `QUASI_RANDOM`, which sorts the draws by page.
    balanced
        Name of a scalar field of integers, such as "label". Samples are drawn as with `weights`, so
        that all classes of the selected samples are equally likely.

    Attributes
    ----------
    epoch : int
        Number of the next epoch.
    seed : int
        Seed of order and augmentations.
    indices : numpy.ndarray
        (N,) int64 sample ids of the selected samples.
    reader : BetonReader
        The open file.

    Raises
    ------
    BetonFormatError
        If the file is damaged or not a .beton file.
    FieldNotFound
        If an argument names a field that the file does not have.
    PipelineError
        If a pipeline does not fit the file, or an argument is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> from ffcv_ssl import views
    >>> from ffcv_ssl.fields import IntField, RGBImageField
    >>> from ffcv_ssl.loader import Loader, OrderOption
    >>> from ffcv_ssl.writer import DatasetWriter
    >>> fields = {"image": RGBImageField(), "label": IntField()}
    >>> writer = DatasetWriter("train.beton", fields, num_workers=0, progress=False)
    >>> samples = [(np.zeros((40, 40, 3), np.uint8), i) for i in range(10)]
    >>> report = writer.from_indexed_dataset(samples)
    >>> options = {"order": OrderOption.RANDOM, "seed": 0, "pipelines": {"image": views.simclr(32)}}
    >>> with Loader("train.beton", batch_size=4, **options) as loader:
    ...     for images, labels in loader:
    ...         print(tuple(images.shape), images.dtype, tuple(labels.shape))
    (4, 2, 3, 32, 32) torch.uint8 (4,)
    (4, 2, 3, 32, 32) torch.uint8 (4,)
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        batch_size: int,
        num_workers: int = -1,
        *,
        order: OrderOption = OrderOption.SEQUENTIAL,
        seed: int | None = None,
        indices: Sequence[int] | NDArray[Any] | None = None,
        pipelines: Mapping[str, Sequence[Any] | None] = EMPTY,
        custom_fields: Mapping[str, type[Field]] = EMPTY,
        custom_field_mapper: Mapping[str, str] = EMPTY,
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
        weights: Sequence[float] | NDArray[Any] | None = None,
        balanced: str | None = None,
    ):
        super().__init__()
        given = {key: value for key, value in locals().items() if key not in ("self", "__class__")}
        self.path = absolute(path)
        check_arguments(self.path, given)
        self.batch_size, self.rank, self.world_size = int(batch_size), int(rank), int(world_size)
        self.order, self.drop_last, self.batches_ahead = order, bool(drop_last), int(batches_ahead)
        self.shuffle_bytes = int(shuffle_bytes)
        self.num_workers = allowed_cores() if num_workers == -1 else num_workers
        self.seed = secrets.randbits(32) if seed is None else int(seed)
        if seed is None:
            logger.info("%s: drew seed %d.", self.path, self.seed)
        self._file = open_file(self.path, self.seed, given)
        self.reader, self.indices = self._file.reader, self._file.selection.indices
        drawn = self._file.selection.weights
        self._arguments = copy_arguments(given) | {  # of a copy of this loader
            "path": self.path,
            "seed": self.seed,
            "indices": None if indices is None else self.indices,
            "weights": None if drawn is None else drawn.given,
        }
        pool, plan = BufferPool(max_free=batches_ahead + 2), self._file.plan
        sizes = self.batch_size, self.rank, self.world_size, self.batches_ahead
        self._context = EpochContext(self.reader, plan, pool, *sizes)
        self._engine: Engine | None = None
        self._closed = False
        if len(self) == 0:
            reason = explain_emptiness(len(self.indices), self.batch_size, self.world_size)
            warnings.warn(f"{self.path}: the loader yields no batches: {reason}", stacklevel=2)

    def __len__(self) -> int:
        """Return the number of batches of a whole epoch, which is the same on every rank."""
        return self._num_batches(len(self.indices))

    def _num_batches(self, num_samples: int) -> int:
        """Return the number of batches of a number of samples over all ranks."""
        return num_batches(num_samples, self.batch_size, self.world_size, self.drop_last)

    def __iter__(self) -> Iterator[Batch]:
        if self._closed:
            raise LoaderClosed(f"{self.path}: the loader is closed.")
        epoch, position = self.epoch, self._resume_position
        self._resume_at(epoch + 1, 0)
        num_steps = self._num_batches(len(self.indices) - position)
        # The rest of a resumed epoch may be smaller than a batch.
        self._progress = Progress(epoch, position) if num_steps else Progress(epoch + 1)
        order, engine = self._file.epoch_order(epoch), self._running_engine()
        return EpochIterator(self._context, engine, order, num_steps, self._progress, self)

    def _running_engine(self) -> Engine:
        """Return the worker threads; they start with the first epoch, and in a forked child."""
        if self._engine is None or self._engine.pid != os.getpid():
            self._engine = Engine(self.num_workers)
            weakref.finalize(self, self._engine.stop)
        for image in self._file.plan.images:
            image.prepare(self._engine)
        return self._engine

    @property
    def failures(self) -> list[SampleError]:
        """Errors of skipped and substituted samples, one for each time the loader met one."""
        return self._file.plan.failures

    def filter(
        self, field: str, condition: Callable[[NDArray[Any]], NDArray[np.bool_]]
    ) -> "Loader":
        """Return a loader over the samples whose value of a field satisfies a condition.

        Samples keep their weights. With `balanced`, the remaining classes are equally likely. The
        new loader starts with the same epoch.

        Parameters
        ----------
        field
            Name of a scalar field.
        condition
            Function from the (N,) values of the selected samples to an (N,) bool mask.

        Returns
        -------
        Loader
            A new loader with the same arguments.

        Raises
        ------
        FieldNotFound
            If the file has no such field.
        PipelineError
            If the field is not a scalar field, or this loader is to resume within an epoch and
            `condition` excludes samples.
        """
        mask = matching_samples(self.reader, self.indices, field, condition)
        self._check_position_after_filter(bool(mask.all()))
        weights = self._arguments["weights"]
        weights = weights if weights is None else weights[mask]
        changed = {"indices": self.indices[mask], "weights": weights}
        loader = Loader(**{**self._arguments, **changed})
        loader._resume_at(self.epoch, self._resume_position)
        return loader

    def close(self) -> None:
        """Stop the threads and close the file; returned batches stay valid."""
        self._closed = True
        if self._engine is not None:
            self._engine.stop()
        self.reader.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (self._arguments, self.state_dict(), self.epoch, self._resume_position)

    def __enter__(self) -> "Loader":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __repr__(self) -> str:
        samples = f"{len(self.indices)} samples, {len(self)} batches of {self.batch_size}"
        return f"Loader({self.path!r}: {samples}, {self.order.name}, seed {self.seed})"


def _reopen(arguments: dict[str, Any], state: dict[str, Any], epoch: int, position: int) -> Loader:
    """Return a copy of a loader; CheckpointError if another file has replaced its file."""
    loader = Loader(**arguments)
    loader.load_state_dict(state)  # sets what `state_dict()` returns
    loader.epoch, loader._resume_position = epoch, position  # where `iter()` begins
    return loader
