"""The CUDA kernels: in Numba's simulator, as PTX, and on a GPU if there is one."""

import dataclasses
import os
import re
import subprocess
import sys
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

from ffcv_ssl.kernels.cuda.launch import (
    PATCH_PIXELS,
    SHARED_BYTES,
    TILES,
    max_num_taps,
    plan_render,
    shared_bytes,
    tile_size,
)
from ffcv_ssl.kernels.rows import AREA, BICUBIC, BILINEAR, NEAREST
from ffcv_ssl.kernels.scalar.resample import num_taps
from tests.kernels.cuda_cases import BYTES, FLOATS, HALVES, cases
from tests.reference.kernel import kernel_row

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.simulator
def test_views__in_the_simulator_equal_those_of_the_cpu_kernel(tmp_path):
    """In float32 the CUDA kernels give the same bits as the CPU kernel.

    The cases cover small and large views and every column, dtype and layout.
    """
    all_cases = list(cases())
    arrays = {
        f"{case.name}/{name}": value
        for case in all_cases
        for name, value in dataclasses.asdict(case).items()
        if name != "name"
    }
    np.savez(tmp_path / "cases.npz", **arrays)
    environment = {**os.environ, "NUMBA_ENABLE_CUDASIM": "1", "NUMBA_DISABLE_JIT": "1"}
    names = [case.name for case in all_cases]
    command = [
        sys.executable,
        "-m",
        "tests.kernels.simulate_views",
        str(tmp_path / "cases.npz"),
        *names,
    ]
    run = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stdout.splitlines() == [f"{name} equal" for name in names]


def signatures(lut):
    """Return the argument types of each kernel, for a lookup table of one dtype."""
    from numba import from_dtype, types

    def array(dtype, ndim):
        return types.Array(dtype, ndim, "C")

    value, number = from_dtype(lut.dtype), types.int64
    inputs = array(types.uint8, 1), array(types.int64, 3), array(types.float32, 3)
    table, out = array(value, 2), array(value, 1)
    totals, sharp = array(types.int32, 2), array(types.float32, 4)
    return {
        "render_patches": (*inputs, table, *[number] * 6, out),
        "sum_luma": (*inputs, *[number] * 5, totals),
        "write_views": (*inputs, table, *[number] * 5, totals, totals, number, number, sharp, out),
        "blur_views": (sharp, array(types.int32, 1), inputs[2], table, *[number] * 3, out),
    }


@pytest.mark.parametrize(
    ("capability", "lut"),
    [((7, 5), BYTES), ((8, 0), BYTES), ((9, 0), BYTES), ((9, 0), HALVES), ((9, 0), FLOATS)],
)
@pytest.mark.parametrize("name", ["render_patches", "sum_luma", "write_views", "blur_views"])
def test_kernels__compile_without_float64_or_spills(name, capability, lut):
    """The PTX uses no float64, no local memory, and only the shared memory of the launch."""
    cuda = pytest.importorskip("numba.cuda", reason="numba-cuda is an extra")
    from ffcv_ssl.kernels.cuda import launch

    kernel = getattr(launch, name)
    device = mock.Mock(compute_capability=capability)
    with mock.patch("numba.cuda.dispatcher.get_current_device", return_value=device):
        ptx, _ = cuda.compile_ptx(kernel.py_func, signatures(lut)[name], cc=capability)
    assert f".target sm_{capability[0]}{capability[1]}" in ptx
    assert ".f64" not in ptx
    assert "__local_depot" not in ptx
    assert sum(int(size) for size in re.findall(r"\.shared .*\[(\d+)\]", ptx)) == 0


@pytest.mark.parametrize("resample", [NEAREST, AREA, BILINEAR, BICUBIC])
def test_max_num_taps__is_never_exceeded_and_not_far_off(resample):
    """The bound holds for all output positions and exceeds the maximum by at most two."""
    for source, size in [
        (16, 32),
        (32, 16),
        (275, 224),
        (500, 224),
        (7, 7),
        (1, 9),
        (640, 31),
        (225, 224),
    ]:
        rows = kernel_row((0, 0, source, source), resample=resample)[None, None]
        planned = max_num_taps(rows, (size, size))
        read = max(num_taps(resample, i, source, size) for i in range(size))
        assert read <= planned <= read + 2


def test_plan__uses_shared_memory_where_it_fits():
    """Views of up to 48 x 48 are rendered in shared memory, unless their weights do not fit."""
    small = kernel_row((0, 0, 64, 64), radius=4, sigma=1.3)[None, None]
    assert plan_render(small, (48, 48)).in_shared
    assert PATCH_PIXELS == 48 * 48
    assert shared_bytes(plan_render(small, (48, 48))) <= SHARED_BYTES
    huge = kernel_row((0, 0, 6000, 6000), radius=4, sigma=1.3)[None, None]
    plan = plan_render(huge, (32, 32))
    assert not plan.in_shared
    assert tile_size(plan) == TILES[-1]
    assert shared_bytes(plan) <= SHARED_BYTES
    assert plan.blurred.tolist() == [0]
    assert plan.slots.tolist() == [[0]]
    assert (
        shared_bytes(
            plan_render(kernel_row((0, 0, 64, 64), radius=31, sigma=10)[None, None], (64, 64))
        )
        <= SHARED_BYTES
    )
    assert (
        shared_bytes(
            plan_render(kernel_row((0, 0, 64, 64), radius=32, sigma=10)[None, None], (64, 64))
        )
        > SHARED_BYTES
    )


@pytest.mark.gpu
def test_views__on_the_gpu_match_those_of_the_cpu_kernel():
    """On a GPU, which fuses multiply-adds, at most 0.1 % of values differ, by one gray level."""
    from numba import cuda

    from ffcv_ssl.kernels.cuda.launch import launch

    for case in cases():
        plan = plan_render(case.rows, case.size)
        sharp = cuda.device_array((max(len(plan.blurred), 1), 3, *case.size), np.float32)
        totals = cuda.to_device(np.zeros(case.rows.shape[:2], np.int32))
        inputs = tuple(
            cuda.to_device(array) for array in (case.pixels, case.sources, case.rows, case.lut)
        )
        blurred = cuda.to_device(plan.blurred if len(plan.blurred) else np.zeros(1, np.int32))
        slots = cuda.to_device(plan.slots if plan.slots.size else np.zeros((1, 1), np.int32))
        out = cuda.device_array(case.expected.size, case.expected.dtype)
        launch(plan, inputs, (totals, slots, blurred, sharp), case.channels_last, out)
        distance = np.abs(
            levels(out.copy_to_host(), case) - levels(case.expected.reshape(-1), case)
        )
        assert distance.max() <= 1, case.name
        assert (distance > 0).mean() <= 1e-3, case.name


def levels(values, case):
    """Return the gray level of every value: its index in the increasing table of its channel."""
    shaped = values.reshape(case.expected.shape)
    planes = np.moveaxis(shaped, -1, 2) if case.channels_last else shaped
    numeric = (
        (lambda array: array.view(np.float16))
        if case.lut.dtype == np.int16
        else (lambda array: array)
    )
    return np.stack(
        [
            np.searchsorted(numeric(case.lut[c]), numeric(np.ascontiguousarray(planes[:, :, c])))
            for c in range(3)
        ],
        axis=2,
    )
