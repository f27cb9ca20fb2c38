"""Our views inside stock FFCV: a view pipeline as one operation of `ffcv.loader.Loader` (extra `ffcv`).

    from ffcv.loader import Loader
    from ffcv.transforms import ToTensor
    from ffcv_ssl import views
    from ffcv_ssl.interop.ffcv import ViewDecoder

    Loader("train.beton", batch_size=256, pipelines={"image": [ViewDecoder(views.simclr(224), seed=0), ToTensor()]})

FFCV keeps order, batches and the other fields; the views come from our reader, decoder and kernels, and are those of our `Loader` with the
same seed and epoch. What FFCV 1.0.2 asks of an operation: `ffcv/pipeline/operation.py`; who calls it when: `ffcv/loader/epoch_iterator.py`.
"""

import itertools
import sys
import threading
import weakref
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from queue import Full
from types import FrameType
from typing import Any, ClassVar

import numpy as np
from numba import objmode

from ffcv_ssl.beton.reader import BetonReader
from ffcv_ssl.errors import PipelineError
from ffcv_ssl.fields.image import RGBImageField
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

CHUNK = 8  # samples that a thread takes at a time
POLL_S = 0.5  # between two looks at whether anybody still waits for a batch


class ViewDecoder(SimpleRGBImageDecoder):  # FFCV takes for a decoder what is one of its own
    """Decoder of an image field that renders all views of a pipeline: (B, V, 3, H, W), without `MultiView` (B, 3, H, W).

    The epoch is FFCV's own, `loader.next_epoch`; set that to go on with a later one. A sample that FFCV's `indices` hold several times gets
    other views each time; ranks of a distributed loader know of their own places only. An image that cannot be read or decoded raises
    `SampleError` where the batch is asked for. Two decoders of one loader draw alike unless their seeds differ.

    Parameters
    ----------
    pipeline
        A list of our transforms, or a preset of `ffcv_ssl.views`; what stands behind the views (`ToDevice`, modules) belongs to FFCV.
    seed
        Of the augmentations.
    num_workers
        Threads that decode and render; None: as many as FFCV's loader has.

    Raises
    ------
    PipelineError
        When FFCV's loader is built: if the pipeline does not fit the field, or its views are not one array of a dtype that NumPy has.
    """

    def __init__(self, pipeline: Sequence[Any], seed: int = 0, num_workers: int | None = None):
        super().__init__()
        self._pipeline, self._seed, self._num_workers = pipeline, seed, num_workers
        self._sources: weakref.WeakKeyDictionary[Loader, ViewSource] = weakref.WeakKeyDictionary()
        self._source: ViewSource | None = None  # of the loader that is asking

    def declare_state_and_memory(self, previous_state):
        """Tell FFCV the shape of a sample. It asks when a loader is built, and again for every iterator."""
        if previous_state.shape is not None:
            raise PipelineError(
                "ViewDecoder reads and decodes the images itself: it is the first operation of an image field's pipeline."
            )
        caller = calling_object()
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
        return replace(
            previous_state, jit_mode=True, shape=source.shape, dtype=source.dtype
        ), AllocationQuery(source.shape, source.dtype)

    def generate_code(self):
        """Return what FFCV compiles: a step back into Python, once per batch."""
        assert self._source is not None
        number = self._source.number

        def decode(batch_indices, destination, metadata, storage_state):
            with objmode():
                render_batch(number, batch_indices, destination)
            return destination[: len(batch_indices)]

        return decode


class ViewSource:
    """The views of one field in the file that one FFCV loader reads.

    Attributes
    ----------
    number
        By which compiled code, which cannot hold an object, finds this one.
    shape, dtype
        Of the views of a sample.
    epochs
        Of FFCV's living iterators, each with the number of times that every sample has come so far;
        None where no sample comes twice.
    """

    by_number: ClassVar[weakref.WeakValueDictionary[int, "ViewSource"]] = (
        weakref.WeakValueDictionary()
    )
    _numbers = itertools.count()

    def __init__(
        self,
        loader: Loader,
        field: str,
        metadata: np.ndarray,
        pipeline: Sequence[Any],
        seed: int,
        num_workers: int | None,
    ):
        reader = BetonReader(loader.reader.file_name)
        where = f"{reader.path}: field {field!r}"
        if not isinstance(reader.fields[field], RGBImageField):
            raise PipelineError(
                f"{where}: ViewDecoder reads images, and this is a {type(reader.fields[field]).__name__}."
            )
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
        self._num_samples, self._has_repeats = (
            reader.num_samples,
            has_repeats(np.asarray(loader.indices)),
        )
        self.epochs: weakref.WeakKeyDictionary[EpochIterator, tuple[int, np.ndarray | None]] = (
            weakref.WeakKeyDictionary()
        )
        self.number = next(self._numbers)
        self.by_number[self.number] = self

    def begin(self, iterator: EpochIterator, epoch: int) -> None:
        """Note the epoch of an iterator of FFCV's that is being built."""
        self.epochs[iterator] = (
            epoch,
            np.zeros(self._num_samples, np.int64) if self._has_repeats else None,
        )

    def render(self, iterator: EpochIterator, sample_ids: np.ndarray, out: np.ndarray) -> None:
        """Render the next batch of an iterator into `out`, (n, *shape); SampleError if a sample cannot be read or decoded."""
        epoch, seen = self.epochs[iterator]
        counts = None
        if seen is not None:
            counts = seen[sample_ids] + occurrences(sample_ids)
            np.add.at(seen, sample_ids, 1)
        parameters = self._renderer.draw(self._seed, epoch, sample_ids, counts)
        views = out.reshape(self._tensor.shape(len(sample_ids)))
        starts = range(0, len(sample_ids), CHUNK)
        chunks = [
            self._threads.submit(
                self._renderer.render, parameters, [views], sample_ids[i : i + CHUNK], i
            )
            for i in starts
        ]
        for error in [
            chunk.exception() for chunk in chunks
        ]:  # all have ended: FFCV may use its memory again
            if error is not None:
                raise error


class Raised:
    """An item of FFCV's queue that raises an error where FFCV unpacks it: in the thread that asked for a batch."""

    def __init__(self, error: Exception):
        self.error = error

    def __iter__(self):
        raise self.error


def render_batch(number: int, batch_indices: np.ndarray, destination: np.ndarray) -> None:
    """Render a batch, in the thread of FFCV's iterator.

    An error here would end that thread, and its consumer would wait for ever. So the consumer gets the error in place of the batch, and
    the thread the one exception with which it ends in order.
    """
    iterator, source = threading.current_thread(), ViewSource.by_number[number]
    try:
        source.render(iterator, batch_indices.astype(np.int64), destination[: len(batch_indices)])
    except Exception as error:  # whatever it is
        hand_over(iterator, Raised(error))
        raise StopIteration from error


def hand_over(iterator: EpochIterator, item: object) -> None:
    """Put an item into the iterator's queue, unless the iterator is given up."""
    while not iterator.terminate_event.is_set():
        try:
            iterator.output_queue.put(item, timeout=POLL_S)
        except Full:
            continue
        return


def calling_object() -> Loader | EpochIterator:
    """FFCV's loader or iterator that is being built: operations are told neither, and only those know file and epoch."""
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        caller = frame.f_locals.get("self")
        if isinstance(caller, (Loader, EpochIterator)):
            return caller
        frame = frame.f_back
    raise PipelineError("ViewDecoder works in the pipelines of ffcv.loader.Loader.")


def check_output(where: str, output: OutputPlan) -> None:
    """Refuse views that FFCV could not pass on; PipelineError with what to do."""
    if output.render_device is not None:
        raise PipelineError(
            f"{where}: ViewDecoder renders on the CPU; leave ToDevice out, and put FFCV's behind ViewDecoder."
        )
    if output.stages:
        raise PipelineError(
            f"{where}: {output.stages[0]!r} stands behind the views; put FFCV's own operation behind ViewDecoder."
        )
    if len(output.tensors) > 1 or output.tensors[0].channels_last:
        raise PipelineError(
            f"{where}: ViewDecoder gives one array of planes; use one decoder per size, and no ToTorchImage."
        )
    if output.tensors[0].lut.dtype == np.uint16:
        raise PipelineError(
            f"{where}: FFCV passes NumPy arrays, which have no 16-bit floats of ours; normalize to float32."
        )
