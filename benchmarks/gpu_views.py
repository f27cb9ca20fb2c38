"""Views rendered on the GPU: how many per second, how near to the memory's speed, against kornia, and does a model wait for them?

    pip install --no-deps --no-build-isolation -e .
    python benchmarks/gpu_views.py [--out=benchmarks/results/gpu_views.json]

Rendering is measured with images and parameter rows that lie on the device, so it is arithmetic that counts; the roofline is what the
same bytes (images read once, views written once) take in a plain copy. End to end everything begins with a file. The stall of a
model is the share by which its steps take longer behind the loader than with one batch over and over.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ffcv_ssl.benchmarks import machine
from ffcv_ssl.benchmarks.gpu_training import NORMALIZE, measure_memory, measure_training
from ffcv_ssl.errors import PipelineError
from ffcv_ssl.kernels.cpu.scratch import make_scratch
from ffcv_ssl.kernels.cpu.view import render_views
from ffcv_ssl.kernels.cuda.launch import plan_render
from ffcv_ssl.loader.render.gpu_device import Device, open_device
from ffcv_ssl.pipeline.plan import plan_images
from ffcv_ssl.transforms import ToDevice
from ffcv_ssl.views import emp_ssl, simclr

PHOTO, PATCHED = (375, 500), (32, 32)
COPY_BYTES = 1 << 30
COMPARED_IMAGES = 200
REPEATS = 5


@dataclass(frozen=True)
class Workload:
    """`count` images of one `size` per batch, and the pipeline of their views; the goal is in views per second."""

    name: str
    count: int
    size: tuple[int, int]
    pipeline: list[Any]
    goal: float | None = None


def workloads() -> list[Workload]:
    """What is rendered: patches as EMP-SSL trains on them, and SimCLR's views."""
    half = {"normalize": NORMALIZE, "dtype": "bfloat16"}
    return [
        Workload("emp20", 100, PATCHED, emp_ssl(n=20, **half), 30e6),
        Workload("emp200", 100, PATCHED, emp_ssl(n=200, **half), 30e6),
        Workload("simclr 96, no blur", 256, PHOTO, simclr(96, blur=0)),
        Workload("simclr 96", 256, PHOTO, simclr(96)),
        Workload("simclr 224, no blur", 256, PHOTO, simclr(224, blur=0)),
        Workload("simclr 224", 256, PHOTO, simclr(224), 500e3),
    ]


class Batch:
    """One batch of a workload, ready to be rendered again and again."""

    def __init__(self, device: Device, workload: Workload, count: int):
        self.device, self.images = device, np.random.default_rng(0).integers(0, 256, (count, *workload.size, 3), dtype=np.uint8)
        plan = plan_images("image", {"image": [ToDevice("cuda"), *workload.pipeline]}, workload.size)
        table = plan.draw(0, 0, np.arange(count), np.tile(np.array(workload.size, np.int32), (count, 1)))
        (self.plan,) = plan.tensors
        self.rows = np.ascontiguousarray(self.plan.rows(table)[:, :, 0])
        self.render = plan_render(self.rows, self.plan.size)
        height, width = workload.size
        origins = np.repeat(np.arange(count, dtype=np.int64)[:, None] * 3 * height * width, self.plan.num_views, axis=1)
        sources = np.stack((origins, np.full_like(origins, 3 * width)), axis=-1)
        arrays = self.images.reshape(-1), sources, self.rows
        table = device.table(self.plan.lut)
        self.out = device.empty((int(np.prod(self.plan.shape(count))),), table.dtype)
        self._totals = device.zeros(self.rows.shape[:2], torch.int32)
        self._tensors = [*(torch.from_numpy(array).to(device.device) for array in arrays), table, *self._work_tensors()]
        # What kernels take is made once: in a loop of short launches it would be most of the time.
        *self._inputs, slots, blurred, sharp = map(device.array, self._tensors)
        self._work = device.array(self._totals), slots, blurred, sharp
        self._target = device.array(self.out)

    def _work_tensors(self) -> list[torch.Tensor | None]:
        """Slots, blurred and sharp, which small views do without."""
        if self.render.in_shared:
            return [None, None, None]
        blurred = self.render.blurred if self.render.blurred.size else np.zeros(1, np.int32)
        lists = [torch.from_numpy(values).to(self.device.device) for values in (self.render.slots, blurred)]
        return [*lists, self.device.empty((len(blurred), 3, *self.plan.size), torch.float32)]

    @property
    def num_views(self) -> int:
        """Views of the batch."""
        return self.rows.shape[0] * self.rows.shape[1]

    @property
    def num_bytes(self) -> int:
        """Bytes that must move: every image once, every view once."""
        return self.images.nbytes + self.out.nbytes

    def launch(self) -> None:
        """Render all views."""
        if not self.render.in_shared:
            self._totals.zero_()
        self.device.launch(self.render, tuple(self._inputs), self._work, self.plan.channels_last, self._target)

    def distance(self) -> tuple[int, float]:
        """Return how far the rendered levels are from the CPU's: the largest distance, and the share of values that differ."""
        self.launch()
        count, height, width, _ = self.images.shape
        shape = self.plan.shape(count)
        expected = np.empty(shape, self.plan.lut.dtype)
        images = self.images.reshape(count, height, 3 * width)
        render_views(images, self.rows, self.plan.lut, make_scratch((height, width), [self.plan.size]), self.plan.channels_last, expected)
        rendered = self.out.cpu().numpy().view(expected.dtype).reshape(shape)
        apart = np.abs(self._levels(rendered) - self._levels(expected))
        return int(apart.max()), float((apart > 0).mean())

    def _levels(self, values: np.ndarray) -> np.ndarray:
        """Return the level of every value of (N, V, 3, h, w), among those that differ: bfloat16 holds some 250 of the 256."""
        if values.dtype == np.uint8:
            return values.astype(np.int16)
        levels = np.empty(values.shape, np.int16)
        for channel in range(3):
            _, first = np.unique(self.plan.lut[channel], return_index=True)
            patterns = self.plan.lut[channel][np.sort(first)]  # in the order of the levels
            order = np.argsort(patterns)
            levels[:, :, channel] = order[np.searchsorted(patterns[order], values[:, :, channel])]
        return levels


def seconds_per_call(call: Callable[[], Any], seconds: float) -> float:
    """Return the median time of a call on the device, over as many calls as take about `seconds`."""
    call()
    torch.cuda.synchronize()
    started = time.perf_counter()
    call()
    torch.cuda.synchronize()
    calls = max(1, int(seconds / REPEATS / max(time.perf_counter() - started, 1e-6)))
    times = []
    for _ in range(REPEATS):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        for _ in range(calls):
            call()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end) / 1e3 / calls)
    return statistics.median(times)


def copy_bandwidth(device: Device, seconds: float) -> float:
    """Return the bytes per second that a copy reads and writes."""
    source, target = (torch.empty(COPY_BYTES, dtype=torch.uint8, device=device.device) for _ in range(2))
    return 2 * COPY_BYTES / seconds_per_call(lambda: target.copy_(source), seconds)


def measure_rendering(device: Device, seconds: float) -> tuple[list[dict], float]:
    """Return a row per workload, and the bytes per second that a copy moves."""
    bandwidth = copy_bandwidth(device, seconds)
    results = []
    for workload in workloads():
        batch = Batch(device, workload, workload.count)
        time_s = seconds_per_call(batch.launch, seconds)
        largest, share = Batch(device, workload, COMPARED_IMAGES).distance()
        row = {"name": workload.name, "views_per_s": batch.num_views / time_s, "bytes_per_s": batch.num_bytes / time_s}
        row |= {"of_roofline": batch.num_bytes / time_s / bandwidth, "goal": workload.goal}
        row |= {"largest_distance": largest, "share_different": share}
        for name, chain in peers(workload).items():
            row[name] = peer_speed(chain, workload, device, seconds)
        results.append(row)
        print(rendering_text(row), flush=True)
    return results, bandwidth


def peers(workload: Workload) -> dict[str, Callable[[tuple[int, int]], Callable] | None]:
    """Return who else can render SimCLR's views on a GPU: kornia with parameters per sample, torchvision with one set per batch."""
    return {"kornia": kornia_chain, "torchvision v2": torchvision_chain} if workload.name.startswith("simclr") else {}


def kornia_chain(size: tuple[int, int], blur: float) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return SimCLR's chain by kornia; every sample has its own parameters."""
    import kornia.augmentation as augmentation

    steps = [
        augmentation.RandomResizedCrop(size, scale=(0.08, 1.0)),
        augmentation.RandomHorizontalFlip(),
        augmentation.ColorJitter(0.8, 0.8, 0.8, 0.2, p=0.8),
        augmentation.RandomGrayscale(p=0.2),
    ]
    steps += [augmentation.RandomGaussianBlur((23, 23), (0.1, 2.0), p=blur)] if blur else []
    chain = torch.nn.Sequential(*steps)
    return lambda images: chain(images.float() / 255)


def torchvision_chain(size: tuple[int, int], blur: float) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return SimCLR's chain by torchvision v2; all samples of a batch share the parameters."""
    from torchvision.transforms import v2

    steps = [v2.RandomResizedCrop(size, scale=(0.08, 1.0)), v2.RandomHorizontalFlip()]
    steps += [v2.RandomApply([v2.ColorJitter(0.8, 0.8, 0.8, 0.2)], 0.8), v2.RandomGrayscale(0.2)]
    steps += [v2.RandomApply([v2.GaussianBlur(23, (0.1, 2.0))], blur)] if blur else []
    return v2.Compose(steps)


def peer_speed(make: Callable, workload: Workload, device: Device, seconds: float) -> float | str:
    """Return the views per second of a peer on the same images, or why there are none."""
    try:
        plan = plan_images("image", {"image": workload.pipeline}, workload.size)
        chain = make(plan.tensors[0].size, 0.0 if "no blur" in workload.name else 0.5)
        shape = workload.count * plan.num_views, 3, *workload.size
        images = torch.randint(0, 256, shape, dtype=torch.uint8, device=device.device)
        with torch.no_grad():
            return len(images) / seconds_per_call(lambda: chain(images), seconds)
    except ImportError as error:
        return f"absent ({error.name})"
    except torch.cuda.OutOfMemoryError:
        return "out of memory"


def rendering_text(row: dict) -> str:
    """Return one line of the table."""
    goal = f"  goal {row['goal']:,.0f}" if row["goal"] else ""
    others = [
        f"{row['views_per_s'] / row[name]:.1f} x {name}" if isinstance(row[name], float) else f"{name}: {row[name]}"
        for name in ("kornia", "torchvision v2")
        if name in row
    ]
    line = f"{row['name']:24}{row['views_per_s']:14,.0f} views/s{row['bytes_per_s'] / 1e9:8.0f} GB/s  {row['of_roofline']:.2f} of copy"
    apart = f"  {row['largest_distance']} levels from the CPU on {row['share_different']:.3%}"
    return line + goal + apart + (f"  [{', '.join(others)}]" if others else "")


def main() -> None:
    """Measure, print, save."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=1.0, help="per measurement (default 1)")
    parser.add_argument("--steps", type=int, default=60, help="of each model (default 60)")
    parser.add_argument("--out", type=Path, help="JSON with all results")
    options = parser.parse_args()
    try:
        device = open_device(torch.device("cuda"))
    except PipelineError as error:
        raise SystemExit(f"gpu_views.py measures a GPU: {error}") from None
    properties = torch.cuda.get_device_properties(device.device)
    print(machine.as_text(machine.describe()))
    rendering, bandwidth = measure_rendering(device, options.seconds)
    print(f"{properties.name}: a copy moves {bandwidth / 1e9:,.0f} GB/s", flush=True)
    gpu = {"name": properties.name, "bandwidth": bandwidth, "cuda": torch.version.cuda}
    result = {"machine": machine.describe(), "gpu": gpu, "rendering": rendering}
    save(options.out, result)
    with tempfile.TemporaryDirectory() as folder:
        result["training"] = measure_training(device, Path(folder), options.steps)
        result["memory"] = measure_memory(device, Path(folder))
    save(options.out, result)


def save(path: Path | None, result: dict[str, Any]) -> None:
    """Write what has been measured so far."""
    if path:
        path.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
