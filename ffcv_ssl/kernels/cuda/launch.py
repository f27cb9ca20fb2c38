"""How the kernels are launched: one launch for small views, at most three for large ones, whatever the number of samples and views."""

from typing import Any, NamedTuple

import numpy as np

from ffcv_ssl.kernels import rows as col
from ffcv_ssl.kernels.cuda.patches import patch_shared, render_patches
from ffcv_ssl.kernels.cuda.views import (
    BLUR_TILE,
    blur_shared,
    blur_views,
    sum_luma,
    view_shared,
    write_views,
)
from ffcv_ssl.kernels.scalar.resample import filter_width

PATCH_PIXELS = 48 * 48  # views up to this size are rendered in shared memory
SHARED_BYTES = 48 * 1024  # that every GPU grants a block
TILES = (
    (32, 64),
    (16, 32),
    (8, 16),
)  # of large views; the smaller, the more weights per position there is room for
THREADS = 32, 8
_filter_width = getattr(filter_width, "py_func", filter_width)  # not compiled for the host


class RenderPlan(NamedTuple):
    """What the host knows of the views of one tensor before they are rendered.

    Parameters
    ----------
    size
        Height and width of the views.
    taps
        Most source positions that an output position reads on an axis.
    radius
        Largest blur radius.
    in_shared
        Whether `render_patches` renders them.
    blurred
        (K,) int32, numbers of the blurred views among all (N V,); only for large views.
    slots
        (N, V) int32, place of each view among the blurred, or -1; only for large views.
    """

    size: tuple[int, int]
    taps: int
    radius: int
    in_shared: bool
    blurred: np.ndarray
    slots: np.ndarray


def most_taps(rows: np.ndarray, size: tuple[int, int]) -> int:
    """Return the most source positions that an output position of any view reads on an axis."""
    most = 1
    for axis, side in ((col.HEIGHT, size[0]), (col.WIDTH, size[1])):
        for resample in np.unique(rows[..., col.RESAMPLE]):
            longest = int(rows[rows[..., col.RESAMPLE] == resample][:, axis].max())
            most = max(most, min(_filter_width(resample) * max(longest, side) // side + 1, longest))
    return most


def plan_render(rows: np.ndarray, size: tuple[int, int]) -> RenderPlan:
    """Look at the rows (N, V, NUM_COLUMNS) float32 of views of `size`."""
    taps, radii = most_taps(rows, size), rows[..., col.RADIUS]
    radius = int(radii.max())
    if size[0] * size[1] <= PATCH_PIXELS and patch_shared(size, taps, radius) <= SHARED_BYTES:
        nothing = np.empty(0, np.int32)
        return RenderPlan(size, taps, radius, True, nothing, nothing)
    blurred = np.flatnonzero(radii).astype(np.int32)
    slots = np.full(radii.shape, -1, np.int32)
    slots.reshape(-1)[blurred] = np.arange(len(blurred))
    return RenderPlan(size, taps, radius, False, blurred, slots)


def shared_bytes(plan: RenderPlan) -> int:
    """Return the shared memory of the plan's hungriest kernel; more than `SHARED_BYTES` cannot be launched."""
    if plan.in_shared:
        return patch_shared(plan.size, plan.taps, plan.radius)
    return max(
        view_shared(tile_of(plan), plan.taps), blur_shared(plan.radius) if plan.radius else 0
    )


def tile_of(plan: RenderPlan) -> tuple[int, int]:
    """Return height and width of the largest tile of large views whose weights there is room for; else the smallest."""
    return next((tile for tile in TILES if view_shared(tile, plan.taps) <= SHARED_BYTES), TILES[-1])


def steps_of(size: tuple[int, int], channels_last: bool) -> tuple[int, int]:
    """Return the steps from a channel to the next and from a pixel to the next."""
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
        Of these rows.
    inputs
        Device arrays as described in `patches.render_patches`: pixels, sources, rows, lut.
    work
        For large views, device arrays: totals (N, V) int32 of zeros, slots and blurred as in the plan, sharp (K, 3, h, w) float32, at
        least one.
    channels_last
        Whether `out` is (N, V, h, w, 3) instead of (N, V, 3, h, w).
    out
        (N V 3 h w,), flat, of the dtype of the lut.
    stream
        Numba stream.
    """
    pixels, sources, rows, lut = inputs
    (height, width), (count, views) = plan.size, rows.shape[:2]
    plane_step, pixel_step = steps_of(plan.size, channels_last)
    if plan.in_shared:
        kernel = render_patches[
            (views, count), THREADS, stream, patch_shared(plan.size, plan.taps, plan.radius)
        ]
        kernel(
            pixels,
            sources,
            rows,
            lut,
            height,
            width,
            plan.taps,
            plan.radius,
            plane_step,
            pixel_step,
            out,
        )
        return
    totals, slots, blurred, sharp = work
    tile = tile_of(plan)
    grid = -(-height // tile[0]) * -(-width // tile[1]), views, count
    configuration = grid, THREADS, stream, view_shared(tile, plan.taps)
    sum_luma[configuration](pixels, sources, rows, height, width, plan.taps, *tile, totals)
    write_views[configuration](
        pixels,
        sources,
        rows,
        lut,
        height,
        width,
        plan.taps,
        *tile,
        totals,
        slots,
        plane_step,
        pixel_step,
        sharp,
        out,
    )
    if len(plan.blurred):
        blur_grid = len(plan.blurred), -(-height // BLUR_TILE) * -(-width // BLUR_TILE)
        blur_views[blur_grid, THREADS, stream, blur_shared(plan.radius)](
            sharp, blurred, rows, lut, plan.radius, plane_step, pixel_step, out
        )
