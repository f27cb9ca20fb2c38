"""A GPU made of NumPy.

It has the methods of `ffcv_ssl.loader.render.gpu_device.Device`. Copies stay in host memory, and
the CPU kernel replaces the CUDA kernels.
"""

import numpy as np
import torch

from ffcv_ssl.kernels import rows as col
from ffcv_ssl.loader.render.gpu_device import PendingCopy
from tests.reference.kernel import render_rows


class ReferenceDevice:
    """Device that renders on the CPU; it counts copies and launches."""

    def __init__(self, device):
        self.device, self.num_copies, self.num_launches = device, 0, 0

    def free_bytes(self):
        return 1 << 30

    def pinned(self, num_bytes):
        return torch.full((num_bytes,), 0xAB, dtype=torch.uint8)

    def copy_async(self, host):
        self.num_copies += 1
        return PendingCopy(host.clone(), None)

    def wait_for_copy(self, copy):
        return copy.data

    def record_use(self, tensor):
        assert tensor is not None

    def array(self, tensor):
        return tensor

    def synchronize(self):
        pass

    def table(self, lut):
        return torch.from_numpy(lut.view(np.int16) if lut.dtype == np.uint16 else lut)

    def empty(self, shape, dtype):
        return torch.full(shape, 77, dtype=dtype)

    def zeros(self, shape, dtype):
        return torch.zeros(shape, dtype=dtype)

    def launch(self, plan, inputs, work, channels_last, out):
        """Render each view alone, from the box that its source and row describe."""
        self.num_launches += 1
        pixels, sources, rows, lut = (tensor.numpy() for tensor in inputs)
        _, slots, blurred, sharp = work
        if not plan.in_shared:
            assert (slots.numpy() == plan.slots).all()
            assert (blurred.numpy()[: len(plan.blurred)] == plan.blurred).all()
            assert len(sharp) == max(len(plan.blurred), 1)
        count, num_views, _ = rows.shape
        shape = (count, num_views, *((*plan.size, 3) if channels_last else (3, *plan.size)))
        target = out.numpy().reshape(shape)
        for n in range(count):
            for v in range(num_views):
                origin, stride = sources[n, v]
                row = rows[n, v].copy()
                box = row[[col.TOP, col.LEFT, col.HEIGHT, col.WIDTH]].astype(int)
                image = cut_out(pixels, origin, stride, *box)
                row[[col.TOP, col.LEFT]] = 0
                target[n, v] = render_rows(image, [row], plan.size, lut, channels_last)[0]


def cut_out(pixels, origin, stride, top, left, height, width):
    """Return a box of an image in packed pixels, (height, width, 3)."""
    first = origin + top * stride + 3 * left
    starts = (first + y * stride for y in range(height))
    lines = [pixels[start : start + 3 * width] for start in starts]
    return np.stack(lines).reshape(height, width, 3)
