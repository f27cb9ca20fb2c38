"""Our views inside stock FFCV: a view pipeline as one operation of `ffcv.loader.Loader` (extra `ffcv`).

    from ffcv.loader import Loader
    from ffcv.transforms import ToTensor
    from ffcv_ssl import views
    from ffcv_ssl.interop.ffcv import ViewDecoder

    Loader("train.beton", batch_size=256, pipelines={"image": [ViewDecoder("train.beton", views.simclr(224), seed=0), ToTensor()]})

FFCV keeps order, batches and the other fields; the views come from our reader, decoder and kernels, and are those of our `Loader` with the
same seed. What FFCV 1.0.2 asks of an operation: `ffcv/pipeline/operation.py`.
"""

import itertools
import logging
import threading
import weakref
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
from numba import objmode

from ffcv_ssl.beton.cores import allowed_cores
from ffcv_ssl.beton.reader import BetonReader
from ffcv_ssl.errors import FieldNotFound, PipelineError, SampleError
from ffcv_ssl.fields.image import RGBImageField
from ffcv_ssl.loader.images import ImageRenderer
from ffcv_ssl.loader.placement import plan_cache
from ffcv_ssl.loader.plan import common_size
from ffcv_ssl.pipeline.plan import ImagePlan, plan_images

try:
    from ffcv.fields.rgb_image import SimpleRGBImageDecoder
    from ffcv.pipeline.allocation_query import AllocationQuery
except ImportError as error:
    raise ImportError(f"ffcv_ssl.interop.ffcv needs FFCV ({error}): pip install 'ffcv_ssl[ffcv]'.") from error

logger = logging.getLogger("ffcv_ssl")
CHUNK = 8  # samples that a thread takes at a time
_numbers = itertools.count()
_decoders: weakref.WeakValueDictionary[int, "ViewDecoder"] = weakref.WeakValueDictionary()  # compiled code holds a number, not an object


class ViewDecoder(SimpleRGBImageDecoder):  # FFCV takes for a decoder what is one of its own
    """Decoder of an image field that renders all views of a pipeline: (B, V, 3, H, W), without `MultiView` (B, 3, H, W).

    FFCV tells its operations no epoch, so a sample is in its epoch k when it comes for the k-th time; with `drop_last` a sample that was
    left out in one epoch goes on with its own count.

    FFCV waits for ever where a decoder fails. Here a damaged image ends the epoch: the error is logged, is found in `failure`, and is
    raised when the next epoch begins.

    Parameters
    ----------
    path
        The .beton file that the FFCV loader reads.
    pipeline
        A list of our transforms, or a preset of `ffcv_ssl.views`; what stands behind the views (`ToDevice`, modules) belongs to FFCV.
    seed
        Of the augmentations.
    field
        Name of the image field.
    first_epoch
        Epoch of a sample that comes for the first time, for training that goes on.
    num_workers
        Threads that decode and render; None: as many as the process may use cores.

    Raises
    ------
    FieldNotFound, PipelineError
        If the pipeline does not fit the file, or its views are not one tensor of a dtype that NumPy has.
    """

    def __init__(
        self,
        path: str,
        pipeline: Sequence[Any],
        seed: int = 0,
        field: str = "image",
        first_epoch: int = 0,
        num_workers: int | None = None,
    ):
        super().__init__()
        self.failure: SampleError | None = None
        self.seed = seed
        self._reader = BetonReader(path)
        self._plan = _plan(self._reader, field, pipeline)
        records = self._reader.records[field]
        cache = plan_cache("os", np.empty((len(records), 2)), records["mode"], np.empty(0, np.int64), 1, path)
        self._renderer = ImageRenderer(self._reader, self._plan, cache, "exact")
        self._epochs = np.full(len(records), first_epoch, np.int64)  # the next of every sample
        self._lock = threading.Lock()
        self._threads = ThreadPoolExecutor(num_workers or allowed_cores(), thread_name_prefix="ffcv_ssl-views")
        self._number = next(_numbers)

    def declare_state_and_memory(self, previous_state):
        """Tell FFCV the shape of a sample; called whenever an epoch begins, and the place to raise what ended the last one."""
        if self.failure is not None:
            raise self.failure
        if len(self.metadata) != len(self._epochs):
            raise PipelineError(f"{self._reader.path}: {len(self._epochs)} samples; FFCV's loader reads a file of {len(self.metadata)}.")
        output = self._plan.outputs[0]
        shape = output.tensors[0].shape(1)[1:] if output.has_view_axis else output.tensors[0].shape(1)[2:]
        dtype = output.tensors[0].lut.dtype
        return replace(previous_state, jit_mode=True, shape=shape, dtype=dtype), AllocationQuery(shape, dtype)

    def generate_code(self):
        """Return what FFCV compiles: a step back into Python, once per batch."""
        number = self._number
        _decoders[number] = self

        def decode(batch_indices, destination, metadata, storage_state):
            with objmode():
                render_batch(number, batch_indices, destination)
            return destination[: len(batch_indices)]

        return decode

    def render(self, sample_ids: np.ndarray, out: np.ndarray) -> None:
        """Render the views of some samples, each in its next epoch, into the beginning of `out`.

        Raises
        ------
        SampleError
            If a sample cannot be read or decoded.
        """
        with self._lock:
            epochs = self._epochs[sample_ids]
            self._epochs[sample_ids] += 1
        drawing = self._renderer.draw(self.seed, epochs[:, None], sample_ids)
        views = out[: len(sample_ids)].reshape(self._plan.outputs[0].tensors[0].shape(len(sample_ids)))
        starts = range(0, len(sample_ids), CHUNK)
        chunks = [self._threads.submit(self._renderer.render, sample_ids[i : i + CHUNK], drawing, [views], i) for i in starts]
        for chunk in chunks:
            chunk.result()


def render_batch(number: int, batch_indices: np.ndarray, destination: np.ndarray) -> None:
    """Render a batch of the decoder with this number; end FFCV's epoch where that fails."""
    decoder = _decoders[number]
    try:
        decoder.render(np.asarray(batch_indices, np.int64), destination)
    except SampleError as error:
        decoder.failure = error
        logger.error("%s (FFCV's epoch ends here)", error)
        raise StopIteration from error  # the one exception that FFCV's thread does not die of


def _plan(reader: BetonReader, field: str, pipeline: Sequence[Any]) -> ImagePlan:
    """Plan the views of one pipeline; an error where FFCV could not take what comes out."""
    if field not in reader.fields:
        raise FieldNotFound(f"{reader.path}: no field {field!r}. Fields: {', '.join(reader.fields)}.")
    if not isinstance(reader.fields[field], RGBImageField):
        raise PipelineError(f"{reader.path}: ViewDecoder reads images, and {field!r} is a {type(reader.fields[field]).__name__}.")
    plan = plan_images(field, {field: pipeline}, common_size(reader, field))
    (output,) = plan.outputs
    if output.stages:
        raise PipelineError(f"field {field!r}: {output.stages[0]!r} stands behind the views; put FFCV's own operation behind ViewDecoder.")
    if len(output.tensors) > 1 or output.tensors[0].channels_last:
        raise PipelineError(f"field {field!r}: ViewDecoder gives one array of planes; use one decoder per size, and no ToTorchImage.")
    if output.tensors[0].lut.dtype == np.uint16:
        raise PipelineError(f"field {field!r}: FFCV passes NumPy arrays, which have no 16-bit floats of ours; normalize to float32.")
    return plan
