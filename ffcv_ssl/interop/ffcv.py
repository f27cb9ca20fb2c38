"""Views of ffcv_ssl in stock FFCV: a decoder for `ffcv.loader.Loader` (extra `ffcv`).

    from ffcv.loader import Loader
    from ffcv.transforms import ToTensor
    from ffcv_ssl import views
    from ffcv_ssl.interop.ffcv import ViewDecoder

    pipelines = {"image": [ViewDecoder(views.simclr(224), seed=0), ToTensor()]}
    Loader("train.beton", batch_size=256, pipelines=pipelines)

FFCV controls the order, the batches and the other fields. This package reads, decodes and renders
the images. The views are those of `ffcv_ssl.loader.Loader` with the same seed and epoch.

FFCV 1.0.2 defines the interface of an operation in `ffcv/pipeline/operation.py` and calls it in
`ffcv/loader/epoch_iterator.py`.
"""

import itertools
import sys
import threading
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import FrameType
from typing import Any, ClassVar

import numpy as np
from numba import objmode
from numpy.typing import NDArray

from ffcv_ssl.beton.reader import BetonReader
from ffcv_ssl.errors import PipelineError
from ffcv_ssl.fields.image import RGBImageField
from ffcv_ssl.interop.ffcv_queue import RaisingItem, put_unless_terminated
from ffcv_ssl.loader.order.sampling import has_repeats, occurrences
from ffcv_ssl.loader.plan import common_size
from ffcv_ssl.loader.render.cache import plan_cache
from ffcv_ssl.loader.render.cpu import CpuRenderer
from ffcv_ssl.loader.render.decode import ImageDecoder
from ffcv_ssl.pipeline.plan import OutputPlan, plan_images

try:
    from ffcv.fields.rgb_image import SimpleRGBImageDecoder
    from ffcv.loader import Loader
    from ffcv.loader.epoch_iterator import EpochIterator
    from ffcv.pipeline.allocation_query import AllocationQuery
except ImportError as error:
    raise ImportError(
        f"ffcv_ssl.interop.ffcv needs FFCV ({error}): pip install 'ffcv_ssl[ffcv]'."
    ) from error

CHUNK = 8  # samples per task of a thread


# FFCV accepts only subclasses of its own decoders.
class ViewDecoder(SimpleRGBImageDecoder):  # type: ignore[misc]  # FFCV has no types
    """Decode an image field of FFCV's loader and render all views of a pipeline.

    The result is (B, V, 3, H, W), or (B, 3, H, W) for a pipeline without `MultiView`.

    The epoch is FFCV's `loader.next_epoch`; set it to resume at a later epoch. A sample that occurs
    several times in FFCV's `indices` gets different views each time; in a distributed loader, each
    rank counts only its own occurrences. An image that cannot be read or decoded raises
    `SampleError` in the thread that requests the batch. Two decoders of one loader draw the same
    random numbers unless their seeds differ.

    Parameters
    ----------
    pipeline
        A list of transforms of this package, or a preset of `ffcv_ssl.views`. Operations on
        finished views (`ToDevice`, modules) belong after the decoder, in FFCV's pipeline.
    seed
        Seed of the augmentations, 0 to 2**64 - 1.
    num_workers
        Number of threads that decode and render, >= 1. None (default) uses as many as FFCV's
        loader.

    Raises
    ------
    PipelineError
        When FFCV's loader is built, if the pipeline does not fit the field, or if its views are not
        one array of a dtype that NumPy has.
    """

    def __init__(self, pipeline: Sequence[Any], seed: int = 0, num_workers: int | None = None):
        super().__init__()
        self._pipeline, self._seed, self._num_workers = pipeline, seed, num_workers
        self._sources: weakref.WeakKeyDictionary[Loader, ViewSource] = weakref.WeakKeyDictionary()
        self._source: ViewSource | None = None  # of the loader that called last

    def declare_state_and_memory(self, previous_state: Any) -> tuple[Any, Any]:
        """Return the state and the memory of a sample, in FFCV's terms.

        FFCV calls this for every loader and again for every iterator.
        """
        if previous_state.shape is not None:
            raise PipelineError(
                "ViewDecoder reads and decodes the images itself; it must be the first operation "
                "of an image field's pipeline."
            )
        caller = calling_loader_or_iterator()
        loader = getattr(caller, "loader", caller)
        if loader not in self._sources:
            name = next(
                name for name, handler in loader.reader.handlers.items() if handler is self.field
            )
            self._sources[loader] = ViewSource(
                loader, name, self.metadata, self._pipeline, self._seed, self._num_workers
            )
        self._source = source = self._sources[loader]
        if caller is not loader:
            source.begin(caller, loader.next_epoch - 1)
        state = replace(previous_state, jit_mode=True, shape=source.shape, dtype=source.dtype)
        return state, AllocationQuery(source.shape, source.dtype)

    def generate_code(self) -> Callable[..., Any]:
        """Return the function that FFCV compiles; it calls back into Python once per batch."""
        assert self._source is not None
        source_id = self._source.source_id

        def decode(batch_indices: Any, destination: Any, metadata: Any, storage_state: Any) -> Any:
            with objmode():
                render_batch(source_id, batch_indices, destination)
            return destination[: len(batch_indices)]

        return decode


class ViewSource:
    """Views of one field in the file of one FFCV loader.

    Parameters
    ----------
    loader
        FFCV's loader.
    field
        Name of the image field.
    metadata
        FFCV's records of the field, (num_samples,).
    pipeline, seed, num_workers
        See `ViewDecoder`.

    Attributes
    ----------
    source_id
        Key of this object in `by_id`. Compiled code refers to it by this number, because it cannot
        hold a Python object.
    shape, dtype
        Shape and dtype of the views of a sample.
    epochs
        Maps each live iterator of FFCV to its epoch and to the number of times that each sample has
        occurred, (num_samples,) int64; None instead of the counts if no sample occurs twice.
    """

    by_id: ClassVar[weakref.WeakValueDictionary[int, "ViewSource"]] = weakref.WeakValueDictionary()
    _ids = itertools.count()

    def __init__(
        self,
        loader: Loader,
        field: str,
        metadata: NDArray[Any],
        pipeline: Sequence[Any],
        seed: int,
        num_workers: int | None,
    ):
        reader = BetonReader(loader.reader.file_name)
        where = f"{reader.path}: field {field!r}"
        if not isinstance(reader.fields[field], RGBImageField):
            kind = type(reader.fields[field]).__name__
            raise PipelineError(f"{where}: ViewDecoder needs an RGBImageField, got {kind}.")
        records = reader.records[field]
        if records.tobytes() != metadata.tobytes():
            raise PipelineError(
                f"{where}: the file was replaced while FFCV's loader was being built."
            )
        plan = plan_images(field, {field: pipeline}, common_size(reader, field))
        output = plan.outputs[0]
        check_output(where, output)
        sizes = np.stack((records["height"], records["width"]), axis=1)
        cache = plan_cache("os", sizes, records["mode"], np.empty(0, np.int64), 1, where)
        self._renderer = CpuRenderer(ImageDecoder(reader, field, cache, "exact"), plan)
        self._tensor, self._seed = output.tensors[0], seed
        self._threads = ThreadPoolExecutor(
            num_workers or loader.num_workers, thread_name_prefix="ffcv_ssl-views"
        )
        self.shape = self._tensor.shape(1)[1 if output.has_view_axis else 2 :]
        self.dtype = self._tensor.lut.dtype
        self._num_samples = reader.num_samples
        self._has_repeats = has_repeats(np.asarray(loader.indices))
        self.epochs: weakref.WeakKeyDictionary[
            EpochIterator, tuple[int, NDArray[np.int64] | None]
        ] = weakref.WeakKeyDictionary()
        self.source_id = next(self._ids)
        self.by_id[self.source_id] = self

    def begin(self, iterator: EpochIterator, epoch: int) -> None:
        """Record the epoch of a new iterator of FFCV."""
        counts = np.zeros(self._num_samples, np.int64) if self._has_repeats else None
        self.epochs[iterator] = epoch, counts

    def render(
        self, iterator: EpochIterator, sample_ids: NDArray[np.int64], out: NDArray[Any]
    ) -> None:
        """Render the next batch of an iterator.

        Parameters
        ----------
        iterator
            Iterator that was passed to `begin`.
        sample_ids
            (n,) int64, positions of the samples in the file.
        out
            (n, *shape) of the dtype of the views; overwritten.

        Raises
        ------
        SampleError
            If a sample cannot be read or decoded.
        """
        epoch, seen = self.epochs[iterator]
        counts = None
        if seen is not None:
            counts = seen[sample_ids] + occurrences(sample_ids)
            np.add.at(seen, sample_ids, 1)
        parameters = self._renderer.draw(self._seed, epoch, sample_ids, counts)
        views = out.reshape(self._tensor.shape(len(sample_ids)))
        render = self._renderer.render
        chunks = [
            self._threads.submit(render, parameters, [views], sample_ids[i : i + CHUNK], i)
            for i in range(0, len(sample_ids), CHUNK)
        ]
        # Wait for all chunks before raising, because FFCV reuses the memory after an error.
        errors = [chunk.exception() for chunk in chunks]
        for error in errors:
            if error is not None:
                raise error


def render_batch(
    source_id: int, batch_indices: NDArray[np.integer[Any]], destination: NDArray[Any]
) -> None:
    """Render a batch in the thread of FFCV's iterator.

    An exception would end that thread, and the consumer would wait forever. The consumer therefore
    receives the error in place of the batch, and the thread ends with StopIteration, which FFCV
    handles.
    """
    iterator, source = threading.current_thread(), ViewSource.by_id[source_id]
    try:
        source.render(iterator, batch_indices.astype(np.int64), destination[: len(batch_indices)])
    except Exception as error:  # any error, see above
        put_unless_terminated(iterator, RaisingItem(error))
        raise StopIteration from error


def calling_loader_or_iterator() -> Loader | EpochIterator:
    """Return the FFCV loader or iterator that is being built, from the call stack.

    FFCV does not pass them to operations, but only they know the file and the epoch.
    """
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        caller = frame.f_locals.get("self")
        if isinstance(caller, (Loader, EpochIterator)):
            return caller
        frame = frame.f_back
    raise PipelineError("ViewDecoder works only in pipelines of ffcv.loader.Loader.")


def check_output(where: str, output: OutputPlan) -> None:
    """Raise PipelineError for views that FFCV cannot return."""
    if output.render_device is not None:
        raise PipelineError(
            f"{where}: ViewDecoder renders on the CPU; remove ToDevice and put FFCV's ToDevice "
            "after ViewDecoder."
        )
    if output.stages:
        raise PipelineError(
            f"{where}: {output.stages[0]!r} works on finished views; put an operation of FFCV "
            "after ViewDecoder instead."
        )
    if len(output.tensors) > 1 or output.tensors[0].channels_last:
        raise PipelineError(
            f"{where}: ViewDecoder returns one array with channels first; use one decoder per "
            "size, and no ToTorchImage."
        )
    if output.tensors[0].lut.dtype == np.uint16:
        raise PipelineError(f"{where}: FFCV cannot return 16-bit floats; normalize to float32.")
