"""Colour arithmetic of one RGB pixel on the 0..255 scale, in float32."""

import numpy as np

from ffcv_ssl.kernels._jit import scalar

# ITU-R BT.601 in Pillow's 16-bit fixed point: the luma of integer pixels is exact in float32, and equal to Pillow's mode L.
LUMA_R, LUMA_G, LUMA_B = (
    np.float32(19595 / 65536),
    np.float32(38470 / 65536),
    np.float32(7471 / 65536),
)
HUE_RED, HUE_GREEN, HUE_BLUE = (
    np.float32(5),
    np.float32(3),
    np.float32(1),
)  # offsets of the channels on the hue circle
ZERO, HALF, ONE, TWO, FOUR, SIX, WHITE = (np.float32(value) for value in (0, 0.5, 1, 2, 4, 6, 255))


@scalar
def clamp(value):
    """`value` limited to [0, 255]."""
    return min(max(value, ZERO), WHITE)


@scalar
def rounded(value):
    """`value` >= 0 rounded half up, as float32 (through int32, which vectorises; `math.floor` gives int64)."""
    return np.float32(np.int32(value + HALF))


@scalar
def to_uint8(value):
    """`value` clamped, rounded half up and narrowed: the one place where a pixel becomes a byte."""
    return np.uint8(np.int32(clamp(value) + HALF))


@scalar
def luma(r, g, b):
    """Rounded BT.601 luma, as Pillow's mode L holds it."""
    return rounded(LUMA_R * r + LUMA_G * g + LUMA_B * b)


@scalar
def blend(value, base, factor):
    """`base` moved towards `value`: factor 0 is `base`, 1 is `value`; clamped (`PIL.ImageEnhance`)."""
    return clamp(base + factor * (value - base))


@scalar
def hue_position(r, g, b, largest, spread):
    """Hue of a pixel on the circle [0, 6) from its largest channel and its spread (largest - smallest)."""
    scale = ONE / (spread if spread > ZERO else ONE)
    position = (r - g) * scale + FOUR
    position = (b - r) * scale + TWO if largest == g else position
    position = (g - b) * scale if largest == r else position
    return position + SIX if position < ZERO else position


@scalar
def hue_channel(position, offset, largest, spread):
    """One channel of the pixel whose hue is `position`; `offset` is that of the channel (HSV hexcone)."""
    k = position + offset
    k = k - SIX if k >= SIX else k
    k = k - SIX if k >= SIX else k
    return largest - spread * min(max(min(k, FOUR - k), ZERO), ONE)


@scalar
def hue_shift(turns):
    """A shift of the hue in -.5 .. .5 turns, as sixths of the circle in [0, 6)."""
    return SIX * (turns if turns > ZERO else turns + ONE)


@scalar
def turn_hue(r, g, b, shift):
    """Turn the hue of a pixel by `shift` sixths of the circle, in [0, 6) (HSV hexcone, as `colorsys`)."""
    largest = max(max(r, g), b)
    spread = largest - min(min(r, g), b)
    position = hue_position(r, g, b, largest, spread) + shift
    red = hue_channel(position, HUE_RED, largest, spread)
    green = hue_channel(position, HUE_GREEN, largest, spread)
    return red, green, hue_channel(position, HUE_BLUE, largest, spread)


@scalar
def solarize(value, threshold):
    """Invert a rounded value that reaches the threshold (`PIL.ImageOps.solarize`)."""
    return np.uint8(255) - value if np.float32(value) >= threshold else value
