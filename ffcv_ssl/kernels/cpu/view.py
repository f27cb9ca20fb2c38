"""The fused kernel: finished views from decoded images and kernel rows."""

import numpy as np

from ffcv_ssl.kernels import rows as col
from ffcv_ssl.kernels._jit import glue, per_sample, scalar
from ffcv_ssl.kernels.cpu.blur import blur_planes
from ffcv_ssl.kernels.cpu.color import grayscale, jitter
from ffcv_ssl.kernels.cpu.resize import resize_crop
from ffcv_ssl.kernels.scalar.color import solarize, to_uint8


@glue
def render_planes(image, row, scratch, height, width):
    """Render one view of an (H, 3 W) uint8 image, up to the blur; return float32 planes (3, height, width) in the scratch."""
    size = 3 * height * width
    planes = scratch.planes[:size].reshape(3, height, width)
    box = (
        np.int64(row[col.TOP]),
        np.int64(row[col.LEFT]),
        np.int64(row[col.HEIGHT]),
        np.int64(row[col.WIDTH]),
    )
    resize_crop(image, box, row[col.FLIP] != 0, np.int64(row[col.RESAMPLE]), scratch, planes)
    flat = scratch.planes[:size].reshape(3, height * width)
    jitter(flat, np.int64(row[col.ORDER]), row[col.BRIGHTNESS : col.HUE + 1])
    gray = row[col.GRAY] != 0
    if gray:
        grayscale(flat)
    radius = np.int64(row[col.RADIUS])
    if radius == 0:
        return planes
    blurred = scratch.blurred[:size].reshape(3, height, width)
    blur_planes(planes, radius, row[col.FALLOFF], gray, scratch, blurred)
    return blurred


@per_sample
def round_levels(values, threshold, levels):
    """Round `values` float32 to `levels` uint8 of the same length, and solarize."""
    if threshold > np.float32(255):
        for i in range(levels.size):
            levels[i] = to_uint8(values[i])
    else:
        for i in range(levels.size):
            levels[i] = solarize(to_uint8(values[i]), threshold)


@per_sample
def is_identity(lut):
    """Whether a lookup table (3, 256) changes nothing."""
    changes = 0
    for c in range(3):
        for level in range(256):
            changes += lut[c, level] != level
    return changes == 0


@scalar
def map_levels(levels, table, identity, target):
    """Map levels through a table of 256 values, or copy them, which vectorises."""
    if identity:
        for x in range(levels.size):
            target[x] = levels[x]
    else:
        for x in range(levels.size):
            target[x] = table[levels[x]]


@per_sample
def write_view(levels, lut, identity, channels_last, out):
    """Map `levels` (3, h, w) uint8 through `lut` (3, 256) into `out` (3, h, w), or (h, w, 3) when channels come last."""
    for c in range(3):
        if channels_last:
            for y in range(out.shape[0]):
                map_levels(levels[c, y], lut[c], identity, out[y, :, c])
        else:
            map_levels(levels[c].reshape(-1), lut[c], identity, out[c].reshape(-1))


@glue
def render_view(image, row, lut, identity, scratch, channels_last, out):
    """Render one view of an (H, 3 W) uint8 image into `out` (3, h, w), or (h, w, 3) when channels come last."""
    height, width = (out.shape[0], out.shape[1]) if channels_last else (out.shape[1], out.shape[2])
    planes = render_planes(image, row, scratch, height, width)
    levels = scratch.levels[: planes.size]
    round_levels(planes.reshape(-1), row[col.THRESHOLD], levels)
    write_view(levels.reshape(planes.shape), lut, identity, channels_last, out)


@per_sample
def render_views(images, rows, lut, scratch, channels_last, out):
    """Render all views of a chunk of images of one size.

    Parameters
    ----------
    images
        (N, H, 3 W) uint8, interleaved RGB.
    rows
        (N, V, NUM_COLUMNS) float32 kernel rows (`kernels.rows`); boxes lie inside the images.
    lut
        (3, 256), the output value of each uint8 per channel; its dtype is that of `out`.
    scratch
        Work arrays of the calling thread, large enough for these images and views.
    channels_last
        Whether `out` is (N, V, h, w, 3) instead of (N, V, 3, h, w).
    out
        The finished views; overwritten.
    """
    identity = is_identity(lut)
    for n in range(images.shape[0]):
        for v in range(rows.shape[1]):
            render_view(images[n], rows[n, v], lut, identity, scratch, channels_last, out[n, v])
