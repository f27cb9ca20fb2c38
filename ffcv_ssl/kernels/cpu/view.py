"""The fused kernel: renders finished views from decoded images and kernel rows."""

import numpy as np

from ffcv_ssl.kernels import rows as col
from ffcv_ssl.kernels._jit import cached_kernel, inline, inline_driver
from ffcv_ssl.kernels._types import Array, Bool, Bytes, Floats, Int
from ffcv_ssl.kernels.cpu.blur import blur_planes
from ffcv_ssl.kernels.cpu.color import grayscale, jitter
from ffcv_ssl.kernels.cpu.resize import resize_crop
from ffcv_ssl.kernels.cpu.scratch import Scratch
from ffcv_ssl.kernels.scalar.color import solarize, to_uint8


@inline_driver
def render_planes(image: Bytes, row: Floats, scratch: Scratch, height: Int, width: Int) -> Floats:
    """Apply all steps up to the blur to one view of an (H, 3 W) uint8 image.

    Returns
    -------
    planes
        (3, height, width) float32, a part of the scratch.
    """
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


@cached_kernel
def round_levels(values: Floats, threshold: np.float32, levels: Bytes) -> None:
    """Round `values` float32 to `levels` uint8 of the same length, and solarize them."""
    if threshold > np.float32(255):
        for i in range(levels.size):
            levels[i] = to_uint8(values[i])
    else:
        for i in range(levels.size):
            levels[i] = solarize(to_uint8(values[i]), threshold)


@cached_kernel
def is_identity(lut: Array) -> Bool:
    """Return whether a lookup table (3, 256) maps every byte to itself."""
    changes = 0
    for c in range(3):
        for level in range(256):
            changes += lut[c, level] != level
    return changes == 0


@inline
def map_levels(levels: Bytes, table: Array, identity: Bool, target: Array) -> None:
    """Map levels through a table of 256 values. The identity is a copy, which vectorizes."""
    if identity:
        for x in range(levels.size):
            target[x] = levels[x]
    else:
        for x in range(levels.size):
            target[x] = table[levels[x]]


@cached_kernel
def write_view(levels: Bytes, lut: Array, identity: Bool, channels_last: Bool, out: Array) -> None:
    """Map `levels` (3, h, w) through `lut` (3, 256) into `out`.

    `out` is (h, w, 3) if `channels_last`, else (3, h, w).
    """
    for c in range(3):
        if channels_last:
            for y in range(out.shape[0]):
                map_levels(levels[c, y], lut[c], identity, out[y, :, c])
        else:
            map_levels(levels[c].reshape(-1), lut[c], identity, out[c].reshape(-1))


@inline_driver
def render_view(
    image: Bytes,
    row: Floats,
    lut: Array,
    identity: Bool,
    scratch: Scratch,
    channels_last: Bool,
    out: Array,
) -> None:
    """Render one view of an image; see `render_views`.

    Parameters
    ----------
    image
        (H, 3 W) uint8, interleaved RGB.
    row
        (NUM_COLUMNS,) float32 kernel row.
    identity
        Whether `lut` maps every byte to itself.
    out
        (h, w, 3) if `channels_last`, else (3, h, w); overwritten.
    """
    height, width = (out.shape[0], out.shape[1]) if channels_last else (out.shape[1], out.shape[2])
    planes = render_planes(image, row, scratch, height, width)
    levels = scratch.levels[: planes.size]
    round_levels(planes.reshape(-1), row[col.THRESHOLD], levels)
    write_view(levels.reshape(planes.shape), lut, identity, channels_last, out)


@cached_kernel
def render_views(
    images: Bytes, rows: Floats, lut: Array, scratch: Scratch, channels_last: Bool, out: Array
) -> None:
    """Render all views of a chunk of images of one size.

    Parameters
    ----------
    images
        (N, H, 3 W) uint8, interleaved RGB.
    rows
        (N, V, NUM_COLUMNS) float32 kernel rows (`kernels.rows`). All boxes lie inside the images.
    lut
        (3, 256) of the dtype of `out`: the output value of each uint8, per channel.
    scratch
        Work arrays of the calling thread, large enough for these images and views.
    channels_last
        Whether `out` is (N, V, h, w, 3) instead of (N, V, 3, h, w).
    out
        Finished views; overwritten.
    """
    identity = is_identity(lut)
    for n in range(images.shape[0]):
        for v in range(rows.shape[1]):
            render_view(images[n], rows[n, v], lut, identity, scratch, channels_last, out[n, v])
