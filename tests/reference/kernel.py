"""Calls of the view kernel on one image with named parameters."""

import math

import numpy as np

from ffcv_ssl.kernels import rows as col
from ffcv_ssl.kernels.cpu.scratch import make_scratch
from ffcv_ssl.kernels.cpu.view import render_views

IDENTITY = np.tile(np.arange(256, dtype=np.uint8), (3, 1))


def kernel_row(
    box,
    *,
    flip=False,
    order=(0, 1, 2, 3),
    factors=(1, 1, 1, 0),
    grayscale=False,
    sigma=0.0,
    radius=0,
    threshold=256,
    resample=col.BILINEAR,
):
    """Return a kernel row from the arguments of `tests.reference.chain.render`."""
    row = col.NEUTRAL.copy()
    row[[col.TOP, col.LEFT, col.HEIGHT, col.WIDTH]] = box
    row[col.FLIP], row[col.GRAY], row[col.THRESHOLD], row[col.RESAMPLE] = (
        flip,
        grayscale,
        threshold,
        resample,
    )
    row[col.ORDER] = sum(step * 4**position for position, step in enumerate(order))
    row[[col.BRIGHTNESS, col.CONTRAST, col.SATURATION, col.HUE]] = factors
    if radius:
        row[col.RADIUS], row[col.FALLOFF] = radius, math.exp(-1 / (2 * sigma**2))
    return row


def render_rows(image, rows, size, lut=IDENTITY, channels_last=False):
    """Render views of one image: (V, 3, h, w), or (V, h, w, 3)."""
    height, width, _ = image.shape
    out = np.empty((1, len(rows), *((*size, 3) if channels_last else (3, *size))), lut.dtype)
    scratch = make_scratch((height, width), [size])
    render_views(
        image.reshape(1, height, 3 * width), np.stack(rows)[None], lut, scratch, channels_last, out
    )
    return out[0]


def render_view(image, box, size, **options):
    """Render one view, (h, w, 3) uint8."""
    return render_rows(image, [kernel_row(box, **options)], size)[0].transpose(1, 2, 0)
