"""Color arithmetic on one RGB pixel, in float32 on the 0..255 scale."""

import numpy as np

from ffcv_ssl.kernels._jit import inline

# ITU-R BT.601 in Pillow's 16-bit fixed point. The luma of integer pixels is exact in float32, so it
# equals Pillow's mode L.
LUMA_R = np.float32(19595 / 65536)
LUMA_G = np.float32(38470 / 65536)
LUMA_B = np.float32(7471 / 65536)
HUE_RED, HUE_GREEN, HUE_BLUE = np.float32(5), np.float32(3), np.float32(1)  # on the hue circle
ZERO, HALF, ONE, TWO, FOUR, SIX, WHITE = (np.float32(value) for value in (0, 0.5, 1, 2, 4, 6, 255))

RGB = tuple[np.float32, np.float32, np.float32]


@inline
def clamp(value: np.float32) -> np.float32:
    """Limit `value` to [0, 255]."""
    return min(max(value, ZERO), WHITE)


@inline
def rounded(value: np.float32) -> np.float32:
    """Round `value` >= 0 half up. Uses int32, which vectorizes; `math.floor` would return int64."""
    return np.float32(np.int32(value + HALF))


@inline
def to_uint8(value: np.float32) -> np.uint8:
    """Clamp `value` and round it half up to a byte."""
    return np.uint8(np.int32(clamp(value) + HALF))


@inline
def luma(r: np.float32, g: np.float32, b: np.float32) -> np.float32:
    """Return the BT.601 luma rounded to an integer, as in Pillow's mode L."""
    return rounded(LUMA_R * r + LUMA_G * g + LUMA_B * b)


@inline
def blend(value: np.float32, base: np.float32, factor: np.float32) -> np.float32:
    """Interpolate from `base` (factor 0) to `value` (factor 1) and clamp (`PIL.ImageEnhance`)."""
    return clamp(base + factor * (value - base))


@inline
def hue_position(
    r: np.float32, g: np.float32, b: np.float32, largest: np.float32, spread: np.float32
) -> np.float32:
    """Return the hue of a pixel in [0, 6); `spread` is its largest minus its smallest channel."""
    scale = ONE / (spread if spread > ZERO else ONE)
    position = (r - g) * scale + FOUR
    position = (b - r) * scale + TWO if largest == g else position
    position = (g - b) * scale if largest == r else position
    return position + SIX if position < ZERO else position


@inline
def hue_channel(
    position: np.float32, offset: np.float32, largest: np.float32, spread: np.float32
) -> np.float32:
    """Return the channel with hue offset `offset` of a pixel with hue `position` (HSV hexcone)."""
    k = position + offset
    k = k - SIX if k >= SIX else k
    k = k - SIX if k >= SIX else k
    return largest - spread * min(max(min(k, FOUR - k), ZERO), ONE)


@inline
def hue_shift(turns: np.float32) -> np.float32:
    """Convert a hue shift in -0.5 .. 0.5 turns to sixths of the circle in [0, 6]."""
    return SIX * (turns if turns > ZERO else turns + ONE)


@inline
def turn_hue(r: np.float32, g: np.float32, b: np.float32, shift: np.float32) -> RGB:
    """Shift the hue of a pixel by `shift` sixths of the circle (HSV hexcone, as `colorsys`)."""
    largest = max(max(r, g), b)
    spread = largest - min(min(r, g), b)
    position = hue_position(r, g, b, largest, spread) + shift
    red = hue_channel(position, HUE_RED, largest, spread)
    green = hue_channel(position, HUE_GREEN, largest, spread)
    return red, green, hue_channel(position, HUE_BLUE, largest, spread)


@inline
def solarize(value: np.uint8, threshold: np.float32) -> np.uint8:
    """Invert a byte that is at least `threshold` (`PIL.ImageOps.solarize`)."""
    return np.uint8(255) - value if np.float32(value) >= threshold else value
