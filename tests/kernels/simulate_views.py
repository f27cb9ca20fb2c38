"""Run the CUDA kernels in Numba's simulator on the cases of a file.

Prints each case's name and "equal" or the fraction of values that differ.
"""

import sys

import numpy as np

from ffcv_ssl.kernels.cuda import launch as cuda_launch

# The simulator runs every CUDA thread as a Python thread and polls while they work.
cuda_launch.THREADS = 4, 2
sys.setswitchinterval(1e-5)

cases = np.load(sys.argv[1])
for name in sys.argv[2:]:
    pixels, sources, rows, size, lut, last, expected = (
        cases[f"{name}/{part}"]
        for part in ("pixels", "sources", "rows", "size", "lut", "channels_last", "expected")
    )
    plan = cuda_launch.plan_render(rows, tuple(size.tolist()))
    assert plan.in_shared == name.startswith("patches")
    totals, sharp = (
        np.zeros(rows.shape[:2], np.int32),
        np.full((max(len(plan.blurred), 1), 3, *size), np.nan, np.float32),
    )
    out = np.zeros_like(expected)
    cuda_launch.launch(
        plan,
        (pixels, sources, rows, lut),
        (totals, plan.slots, plan.blurred, sharp),
        bool(last),
        out.reshape(-1),
    )
    print(name, "equal" if np.array_equal(out, expected) else f"{(out != expected).mean():.4f}")
