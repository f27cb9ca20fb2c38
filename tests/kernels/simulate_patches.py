"""Run the CUDA patch kernel in Numba's simulator on the cases of a file; print "equal" or the difference for each."""

import sys

import numpy as np

from ffcv_ssl.kernels.cuda.patches import patch_views

cases = np.load(sys.argv[1])
for i in range(len(cases.files) // 4):
    images, rows, lut, expected = (cases[f"{name}{i}"] for name in ("images", "rows", "lut", "out"))
    out = np.zeros_like(expected)
    patch_views[(len(images), rows.shape[1]), 32](images, rows, lut, out)
    print("equal" if np.array_equal(out, expected) else f"{(out != expected).mean():.4f}")
