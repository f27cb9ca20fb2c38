"""Launch the kernels: one launch for small views and at most three for large ones, per tensor."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ffcv_ssl.kernels import rows as col
from ffcv_ssl.kernels.cuda.blur import BLUR_TILE, blur_shared_bytes, blur_views
from ffcv_ssl.kernels.cuda.patches import patch_shared_bytes, render_patches
from ffcv_ssl.kernels.cuda.views import sum_luma, view_shared_bytes, write_views
from ffcv_ssl.kernels.scalar.resample import filter_width

PATCH_PIXELS = 48 * 48  # views up to this size are rendered in shared memory
SHARED_BYTES = 48 * 1024  # shared memory that every GPU grants a block
# Tiles of large views, (height, width). A smaller tile leaves memory for more weights per position.
TILES = (32, 64), (16, 32), (8, 16)
THREADS = 32, 8
_filter_width = getattr(filter_width, "py_func", filter_width)  # not compiled for the host


class RenderPlan(NamedTuple):
    """Launch parameters of the views of one tensor, computed on the host.

    Parameters
    ----------
    size
        Height and width of the views, in pixels.
    taps
        Largest number of source positions that an output position reads along an axis.
    radius
        Largest blur radius.
    in_shared
        Whether `render_patches` renders the views.
    blurred
        (K,) int32, indices of the blurred views among all N * V views; empty for small views.
    slots
        (N, V) int32, index of each view among the blurred views, or -1; empty for small views.
    """

    size: tuple[int, int]
    taps: int
    radius: int
    in_shared: bool
    blurred: NDArray[np.int32]
    slots: NDArray[np.int32]


def max_num_taps(rows: NDArray[np.float32], size: tuple[int, int]) -> int:
    """Return an upper bound on the source positions that an output position reads along an axis.

    Parameters
    ----------
    rows
        (N, V, NUM_COLUMNS) float32 kernel rows.
    size
        Height and width of the views, in pixels.
    """
    largest = 1
    for axis, side in ((col.HEIGHT, size[0]), (col.WIDTH, size[1])):
        for resample in np.unique(rows[..., col.RESAMPLE]):
            longest = int(rows[rows[..., col.RESAMPLE] == resample][:, axis].max())
            taps = _filter_width(resample) * max(longest, side) // side + 1
            largest = max(largest, min(taps, longest))
    return largest


def plan_render(rows: NDArray[np.float32], size: tuple[int, int]) -> RenderPlan:
    """Plan the launches for the views of one tensor.

    Parameters
    ----------
    rows
        (N, V, NUM_COLUMNS) float32 kernel rows.
    size
        Height and width of the views, in pixels.
    """
    taps, radii = max_num_taps(rows, size), rows[..., col.RADIUS]
    radius = int(radii.max())
    is_small = size[0] * size[1] <= PATCH_PIXELS
    if is_small and patch_shared_bytes(size, taps, radius) <= SHARED_BYTES:
        empty = np.empty(0, np.int32)
        return RenderPlan(size, taps, radius, True, empty, empty)
    blurred = np.flatnonzero(radii).astype(np.int32)
    slots = np.full(radii.shape, -1, np.int32)
    slots.reshape(-1)[blurred] = np.arange(len(blurred))
    return RenderPlan(size, taps, radius, False, blurred, slots)


def shared_bytes(plan: RenderPlan) -> int:
    """Return the shared memory of the kernel that needs most, in bytes.

    A plan that needs more than `SHARED_BYTES` cannot be launched.
    """
    if plan.in_shared:
        return patch_shared_bytes(plan.size, plan.taps, plan.radius)
    blur = blur_shared_bytes(plan.radius) if plan.radius else 0
    return max(view_shared_bytes(tile_size(plan), plan.taps), blur)


def tile_size(plan: RenderPlan) -> tuple[int, int]:
    """Return (height, width) of the largest tile whose weights fit in shared memory.

    If none fits, return the smallest tile.
    """
    return next(
        (tile for tile in TILES if view_shared_bytes(tile, plan.taps) <= SHARED_BYTES), TILES[-1]
    )


def output_steps(size: tuple[int, int], channels_last: bool) -> tuple[int, int]:
    """Return the steps from one channel to the next and from one pixel to the next, in elements."""
    return (1, 3) if channels_last else (size[0] * size[1], 1)


def launch(
    plan: RenderPlan,
    inputs: tuple[Any, Any, Any, Any],
    work: tuple[Any, Any, Any, Any],
    channels_last: bool,
    out: Any,
    stream: Any = 0,
) -> None:
    """Render all views of one tensor.

    Parameters
    ----------
    plan
        The result of `plan_render` for these rows.
    inputs
        Device arrays pixels, sources, rows and lut; see `patches.render_patches`.
    work
        Device arrays for large views: totals, (N, V) int32 of zeros; slots and blurred, as in the
        plan; sharp, (K, 3, h, w) float32 with K >= 1.
    channels_last
        Whether `out` holds (N, V, h, w, 3) instead of (N, V, 3, h, w).
    out
        (N * V * 3 * h * w,) device array of the dtype of lut; overwritten.
    stream
        Numba stream; 0 is the default stream.
    """
    pixels, sources, rows, lut = inputs
    (height, width), (count, views) = plan.size, rows.shape[:2]
    taps, radius, steps = plan.taps, plan.radius, output_steps(plan.size, channels_last)
    if plan.in_shared:
        shared = patch_shared_bytes(plan.size, taps, radius)
        kernel = render_patches[(views, count), THREADS, stream, shared]
        kernel(pixels, sources, rows, lut, height, width, taps, radius, *steps, out)
        return
    totals, slots, blurred, sharp = work
    tile = tile_size(plan)
    grid = -(-height // tile[0]) * -(-width // tile[1]), views, count
    configuration = grid, THREADS, stream, view_shared_bytes(tile, taps)
    sum_luma[configuration](pixels, sources, rows, height, width, taps, *tile, totals)
    write_views[configuration](
        pixels, sources, rows, lut, height, width, taps, *tile, totals, slots, *steps, sharp, out
    )
    if len(plan.blurred):
        blur_grid = len(plan.blurred), -(-height // BLUR_TILE) * -(-width // BLUR_TILE)
        blur_views[blur_grid, THREADS, stream, blur_shared_bytes(radius)](
            sharp, blurred, rows, lut, radius, *steps, out
        )
