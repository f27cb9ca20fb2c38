"""The CUDA kernels: in Numba's simulator, as PTX, and on a GPU where there is one."""

import os
import re
import subprocess
import sys
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

from ffcv_ssl.kernels.rows import NUM_COLUMNS
from tests.reference.images import photo_like
from tests.reference.kernel import kernel_row, render_rows

ROOT = Path(__file__).resolve().parents[2]
PATCHES = [
    ((5, 9, 16, 16), (32, 32), {}),
    ((0, 3, 16, 15), (32, 29), {"flip": True}),
    ((13, 7, 8, 9), (8, 9), {"grayscale": True}),
    ((1, 0, 27, 25), (9, 11), {"flip": True, "grayscale": True}),
]


def half_table():
    """The (3, 256) bit patterns of float16 values normalised per channel."""
    mean, std = np.array([[120.0], [118.0], [110.0]]), np.array([[60.0], [61.0], [65.0]])
    return ((np.arange(256)[None] - mean) / std).astype(np.float16).view(np.uint16)


def patch_cases():
    """Inputs of the patch kernel, two images with two views each, and the CPU kernel's results."""
    for box, size, options in PATCHES:
        images = np.stack([photo_like(29, 31, seed) for seed in (1, 2)])
        rows = np.stack([[kernel_row(box, **options), kernel_row((2, 1, 16, 16))] for _ in images])
        expected = np.stack([render_rows(image, list(views), size, half_table()) for image, views in zip(images, rows, strict=True)])
        yield images, rows.astype(np.float32), half_table(), expected


@pytest.mark.simulator
def test_patch_views__in_the_simulator_is_the_cpu_kernel(tmp_path):
    """In true float32 the CUDA loop gives the CPU kernel's bits, for enlarged, reduced, flipped and grey patches."""
    arrays = {
        f"{name}{i}": array
        for i, case in enumerate(patch_cases())
        for name, array in zip(("images", "rows", "lut", "out"), case, strict=True)
    }
    np.savez(tmp_path / "cases.npz", **arrays)
    environment = {**os.environ, "NUMBA_ENABLE_CUDASIM": "1", "NUMBA_DISABLE_JIT": "1"}
    command = [sys.executable, "-m", "tests.kernels.simulate_patches", str(tmp_path / "cases.npz")]
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stdout.split() == ["equal"] * len(PATCHES)


@pytest.mark.parametrize("capability", [(7, 5), (8, 0), (9, 0)])
def test_patch_views__compiles_without_float64_or_spills(capability):
    """The kernel's PTX holds no float64, no local memory, and at most 48 KiB of shared memory."""
    cuda = pytest.importorskip("numba.cuda", reason="numba-cuda is an extra")
    from numba import types

    from ffcv_ssl.kernels.cuda.patches import patch_views

    arrays = ((types.uint8, 4), (types.float32, 3), (types.uint16, 2), (types.uint16, 5))
    signature = tuple(types.Array(dtype, ndim, "C") for dtype, ndim in arrays)
    device = mock.Mock(compute_capability=capability)
    with mock.patch("numba.cuda.dispatcher.get_current_device", return_value=device):
        ptx, _ = cuda.compile_ptx(patch_views.py_func, signature, cc=capability)
    assert f".target sm_{capability[0]}{capability[1]}" in ptx
    assert ".f64" not in ptx
    assert "__local_depot" not in ptx
    assert sum(int(size) for size in re.findall(r"\.shared .*\[(\d+)\]", ptx)) <= 48 * 1024


@pytest.mark.gpu
def test_patch_views__on_the_gpu_is_the_cpu_kernel():
    """On a GPU, where multiply-adds fuse, at most 0.1 % of the values differ, each by one grey level."""
    from numba import cuda

    from ffcv_ssl.kernels.cuda.patches import THREADS, patch_views

    for images, rows, lut, expected in patch_cases():
        out = cuda.device_array(expected.shape, np.uint16)
        patch_views[images.shape[:1] + rows.shape[1:2], THREADS](*(cuda.to_device(array) for array in (images, rows, lut)), out)
        level = np.argsort(np.argsort(lut.view(np.float16), axis=1), axis=1)
        distance = np.abs(levels(out.copy_to_host(), lut, level) - levels(expected, lut, level))
        assert distance.max() <= 1
        assert (distance > 0).mean() <= 1e-3


def levels(views, lut, level):
    """Grey level of every value of (N, V, 3, h, w) bit patterns."""
    return np.stack([level[c][np.searchsorted(lut[c].view(np.float16), views[:, :, c].view(np.float16))] for c in range(3)], axis=2)


def test_rows__are_what_the_kernels_read():
    """The neutral row has a value for every column."""
    assert kernel_row((0, 0, 1, 1)).shape == (NUM_COLUMNS,)
