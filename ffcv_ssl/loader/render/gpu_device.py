"""Access of the loader to a GPU: memory, a stream for copies, and the launch of kernels."""

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from ffcv_ssl.errors import PipelineError

if TYPE_CHECKING:
    from ffcv_ssl.kernels.cuda.launch import RenderPlan


class PendingCopy:
    """A copy to the device that may not have ended yet.

    Parameters
    ----------
    data
        Memory on the device.
    arrived
        Event that is recorded after the copy.
    """

    def __init__(self, data: torch.Tensor, arrived: Any):
        self.data, self.arrived = data, arrived


class Device:
    """A GPU, with torch's allocators and streams and with Numba's kernels.

    Parameters
    ----------
    device
        Device of torch: "cuda", or "cuda:1" and so on.

    Attributes
    ----------
    device
        The device with its index.

    Raises
    ------
    PipelineError
        If torch finds no such GPU, or Numba cannot use it.
    """

    def __init__(self, device: torch.device):
        where = f"ToDevice({str(device)!r}) before the transforms"
        if not torch.cuda.is_available():
            raise PipelineError(
                f"{where} needs a GPU, but torch finds no GPU; remove it to render on the CPU."
            )
        index = torch.cuda.current_device() if device.index is None else device.index
        num_gpus = torch.cuda.device_count()
        if index >= num_gpus:
            raise PipelineError(
                f"{where} names a GPU that does not exist; torch finds {num_gpus} "
                f"(cuda:0 to cuda:{num_gpus - 1})."
            )
        self.device = torch.device("cuda", index)
        try:
            from numba import cuda
            from numba.cuda import dispatcher

            from ffcv_ssl.kernels.cuda.launch import launch

            self._context = cuda.gpus[index]
        except Exception as error:  # the type depends on what is missing
            raise PipelineError(
                f"{where} needs numba-cuda ({error}); run pip install 'ffcv_ssl[cuda13]' "
                "(or cuda12, the version of torch), or put ToDevice behind the transforms."
            ) from error
        # A small batch does not fill the GPU, which needs no warning. Numba defines the names of
        # its configuration at run time.
        dispatcher.config.CUDA_LOW_OCCUPANCY_WARNINGS = 0  # type: ignore[attr-defined]
        self._launch = launch
        self._as_array: Any = cuda.as_cuda_array
        self._as_stream: Any = cuda.external_stream
        # torch does not annotate its streams.
        self._copy_stream = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]
        self._tables: dict[int, torch.Tensor] = {}  # by `id` of the lookup table
        # CUDA's handle → Numba's stream; the default stream is 0 for both.
        self._streams: dict[int, Any] = {0: 0}

    def free_bytes(self) -> int:
        """Return the free memory of the GPU, in bytes."""
        return torch.cuda.mem_get_info(self.device)[0]

    def pinned(self, num_bytes: int) -> torch.Tensor:
        """Return pinned host memory, (num_bytes,) uint8; torch reuses it after pending copies."""
        return torch.empty(num_bytes, dtype=torch.uint8, pin_memory=True)

    def copy_async(self, host: torch.Tensor) -> PendingCopy:
        """Start to copy a uint8 tensor to the device, on a stream for copies."""
        with torch.cuda.stream(self._copy_stream):
            data = host.to(self.device, non_blocking=True)
            return PendingCopy(data, self._copy_stream.record_event())

    def wait_for_copy(self, copy: PendingCopy) -> torch.Tensor:
        """Make the current stream wait for a copy; return the copy, a uint8 tensor."""
        stream = torch.cuda.current_stream(self.device)
        stream.wait_event(copy.arrived)
        copy.data.record_stream(stream)
        return copy.data

    def synchronize(self) -> None:
        """Wait for the current stream, so that all streams can read what it has written."""
        torch.cuda.current_stream(self.device).synchronize()

    def table(self, lut: NDArray[Any]) -> torch.Tensor:
        """Return a lookup table on the device.

        Parameters
        ----------
        lut
            (3, 256) output values; 16-bit floats as uint16 bit patterns. The caller keeps it alive.

        Returns
        -------
        torch.Tensor
            (3, 256); 16-bit floats as int16 bit patterns.
        """
        if id(lut) not in self._tables:
            signed = lut.view(np.int16) if lut.dtype == np.uint16 else lut
            self._tables[id(lut)] = torch.from_numpy(signed).to(self.device)
            self.synchronize()
        self.record_use(self._tables[id(lut)])
        return self._tables[id(lut)]

    def empty(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        """Return uninitialized device memory of a shape and dtype."""
        return torch.empty(shape, dtype=dtype, device=self.device)

    def zeros(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        """Return device memory of a shape and dtype, filled with zeros."""
        return torch.zeros(shape, dtype=dtype, device=self.device)

    def record_use(self, tensor: torch.Tensor) -> None:
        """Tell torch's allocator that the current stream reads a tensor of another stream."""
        tensor.record_stream(torch.cuda.current_stream(self.device))

    def array(self, tensor: Any) -> Any:
        """Return a tensor as an array for Numba's kernels; return other values, or None, as is."""
        return self._as_array(tensor, sync=False) if isinstance(tensor, torch.Tensor) else tensor

    def launch(
        self,
        plan: "RenderPlan",
        inputs: tuple[Any, ...],
        work: tuple[Any, ...],
        channels_last: bool,
        out: Any,
    ) -> None:
        """Render views on the current stream.

        Parameters
        ----------
        plan, inputs, work, channels_last, out
            As in `ffcv_ssl.kernels.cuda.launch.launch`. Arrays are tensors or return values of
            `array`.
        """
        handle = torch.cuda.current_stream(self.device).cuda_stream
        with torch.cuda.device(self.device), self._context:
            if handle not in self._streams:
                self._streams[handle] = self._as_stream(handle)
            inputs, work = (tuple(map(self.array, arrays)) for arrays in (inputs, work))
            self._launch(plan, inputs, work, channels_last, self.array(out), self._streams[handle])


def open_device(device: torch.device) -> Device:
    """Return the GPU that renders.

    Parameters
    ----------
    device
        Device of torch.

    Returns
    -------
    Device
        The GPU.

    Raises
    ------
    PipelineError
        If there is no such GPU, or Numba cannot use it.
    """
    return Device(device)
