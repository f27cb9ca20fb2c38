"""Color steps on three contiguous float32 planes (3, P) of one view, in place, within [0, 255]."""

import numpy as np

from ffcv_ssl.kernels._jit import cached_kernel
from ffcv_ssl.kernels._types import Floats, Int
from ffcv_ssl.kernels.rows import (
    NO_SHIFT,
    STEP_BRIGHTNESS,
    STEP_CONTRAST,
    STEP_SATURATION,
    UNCHANGED,
)
from ffcv_ssl.kernels.scalar.color import blend, clamp, hue_shift, luma, rounded, turn_hue


@cached_kernel
def scale_brightness(planes: Floats, factor: np.float32) -> None:
    """Blend every pixel with black (`PIL.ImageEnhance.Brightness`)."""
    for c in range(3):
        plane = planes[c]
        for i in range(plane.size):
            plane[i] = clamp(plane[i] * factor)


@cached_kernel
def blend_contrast(planes: Floats, factor: np.float32) -> None:
    """Blend every pixel with the rounded mean of the rounded luma (`PIL.ImageEnhance.Contrast`)."""
    r, g, b = planes[0], planes[1], planes[2]
    total: Int = 0  # an integer sum does not depend on order or vector width
    for i in range(r.size):
        total += np.int32(luma(r[i], g[i], b[i]))
    mean = rounded(np.float32(total) / np.float32(r.size))
    for c in range(3):
        plane = planes[c]
        for i in range(plane.size):
            plane[i] = blend(plane[i], mean, factor)


@cached_kernel
def blend_saturation(planes: Floats, factor: np.float32) -> None:
    """Blend every pixel with its luma (`PIL.ImageEnhance.Color`)."""
    r, g, b = planes[0], planes[1], planes[2]
    for i in range(r.size):
        gray = luma(r[i], g[i], b[i])
        r[i] = blend(r[i], gray, factor)
        g[i] = blend(g[i], gray, factor)
        b[i] = blend(b[i], gray, factor)


@cached_kernel
def shift_hue(planes: Floats, shift: np.float32) -> None:
    """Shift the hue of every pixel by `shift` sixths of the circle (HSV hexcone, as `colorsys`)."""
    r, g, b = planes[0], planes[1], planes[2]
    for i in range(r.size):
        r[i], g[i], b[i] = turn_hue(r[i], g[i], b[i], shift)


@cached_kernel
def jitter(planes: Floats, order: Int, factors: Floats) -> None:
    """Apply the four color steps in the order of the base-4 digits of `order`, lowest digit first.

    `factors` is (4,) float32. Steps with a neutral factor are skipped.
    """
    for _ in range(4):
        step = order % 4
        order //= 4
        factor = factors[step]
        if step == STEP_BRIGHTNESS:
            if factor != UNCHANGED:
                scale_brightness(planes, factor)
        elif step == STEP_CONTRAST:
            if factor != UNCHANGED:
                blend_contrast(planes, factor)
        elif step == STEP_SATURATION:
            if factor != UNCHANGED:
                blend_saturation(planes, factor)
        elif factor != NO_SHIFT:
            shift_hue(planes, hue_shift(factor))


@cached_kernel
def grayscale(planes: Floats) -> None:
    """Replace all three planes by the luma."""
    r, g, b = planes[0], planes[1], planes[2]
    for i in range(r.size):
        r[i] = luma(r[i], g[i], b[i])
        g[i] = r[i]
        b[i] = r[i]
