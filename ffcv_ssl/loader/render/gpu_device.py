"""What the loader needs of a GPU: a stream for copies, memory, and the launch of kernels on torch's current stream."""

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ffcv_ssl.errors import PipelineError

if TYPE_CHECKING:
    from ffcv_ssl.kernels.cuda.launch import RenderPlan


class Device:
    """A GPU, through torch's allocators and streams; kernels are Numba's.

    Parameters
    ----------
    device
        "cuda" or "cuda:1", as torch has it.

    Raises
    ------
    PipelineError
        If torch finds no such GPU, or Numba cannot use it.
    """

    def __init__(self, device: torch.device):
        where = f"ToDevice({str(device)!r}) stands before the transforms"
        if not torch.cuda.is_available():
            raise PipelineError(f"{where}, but torch finds no GPU; leave it out.")
        index = torch.cuda.current_device() if device.index is None else device.index
        if index >= torch.cuda.device_count():
            raise PipelineError(
                f"{where}, but there is no such GPU: torch finds {torch.cuda.device_count()}."
            )
        self.device = torch.device("cuda", index)
        try:
            from numba import cuda
            from numba.cuda import dispatcher

            from ffcv_ssl.kernels.cuda.launch import launch

            self._context = cuda.gpus[index]
        except Exception as error:  # what Numba raises depends on what is missing
            raise PipelineError(
                f"{where}, which needs numba-cuda ({error}): pip install 'ffcv_ssl[cuda13]' (or cuda12, as torch was built), or put "
                "ToDevice behind the transforms."
            ) from error
        dispatcher.config.CUDA_LOW_OCCUPANCY_WARNINGS = 0  # type: ignore[attr-defined]  # a small batch is no mistake
        self._launch, self._as_array, self._as_stream = (
            launch,
            cuda.as_cuda_array,
            cuda.external_stream,
        )
        self._copies = torch.cuda.Stream(self.device)
        self._tables: dict[int, torch.Tensor] = {}
        self._streams: dict[int, Any] = {
            0: 0
        }  # CUDA's handle to Numba's stream; the default stream is 0 for both

    def free_bytes(self) -> int:
        """Return the memory that the GPU has free."""
        return torch.cuda.mem_get_info(self.device)[0]

    def pinned(self, num_bytes: int) -> torch.Tensor:
        """Return host memory that copies can read; torch gives it out again once they have."""
        return torch.empty(num_bytes, dtype=torch.uint8, pin_memory=True)

    def copy_async(self, host: torch.Tensor) -> "PendingCopy":
        """Begin to copy bytes to the device, on a stream of their own."""
        with torch.cuda.stream(self._copies):
            return PendingCopy(host.to(self.device, non_blocking=True), self._copies.record_event())

    def wait_for_copy(self, copy: "PendingCopy") -> torch.Tensor:
        """Make the current stream wait for a copy, and return it."""
        stream = torch.cuda.current_stream(self.device)
        stream.wait_event(copy.arrived)
        copy.data.record_stream(stream)
        return copy.data

    def synchronize(self) -> None:
        """Wait until what this stream has written is there for all streams; only before the first batch."""
        torch.cuda.current_stream(self.device).synchronize()

    def table(self, lut: np.ndarray) -> torch.Tensor:
        """Return a lookup table on the device; 16-bit floats as int16."""
        if id(lut) not in self._tables:
            signed = lut.view(np.int16) if lut.dtype == np.uint16 else lut
            self._tables[id(lut)] = torch.from_numpy(signed).to(self.device)
            self.synchronize()
        self.use(self._tables[id(lut)])
        return self._tables[id(lut)]

    def empty(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        """Return uninitialised device memory."""
        return torch.empty(shape, dtype=dtype, device=self.device)

    def zeros(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        """Return device memory of zeros."""
        return torch.zeros(shape, dtype=dtype, device=self.device)

    def use(self, tensor: torch.Tensor) -> None:
        """Tell torch's allocator that the current stream reads a tensor that another may have allocated."""
        tensor.record_stream(torch.cuda.current_stream(self.device))

    def array(self, tensor: Any) -> Any:
        """Return what kernels take; what is one already, or None, stays."""
        return self._as_array(tensor, sync=False) if isinstance(tensor, torch.Tensor) else tensor

    def launch(
        self, plan: "RenderPlan", inputs: tuple, work: tuple, channels_last: bool, out: Any
    ) -> None:
        """Render on the current stream (`kernels.cuda.launch`); arrays are tensors or what `array` makes of them."""
        handle = torch.cuda.current_stream(self.device).cuda_stream
        with torch.cuda.device(self.device), self._context:
            if handle not in self._streams:
                self._streams[handle] = self._as_stream(handle)
            inputs, work = (tuple(map(self.array, arrays)) for arrays in (inputs, work))
            self._launch(plan, inputs, work, channels_last, self.array(out), self._streams[handle])


class PendingCopy:
    """Bytes on their way to the device, and the event that says that they have arrived."""

    def __init__(self, data: torch.Tensor, arrived: Any):
        self.data, self.arrived = data, arrived


def open_device(device: torch.device) -> Device:
    """Return the GPU that renders; PipelineError if there is none."""
    return Device(device)
