"""Columns of a kernel row: the float32 numbers that tell a kernel how to render one view.

Each column is declared once, with the value that changes nothing (its neutral value). The pipeline
fills rows from the parameter table; columns that no transform fills stay neutral.
"""

import numpy as np

UNCHANGED = np.float32(1)  # factor of brightness, contrast and saturation
NO_SHIFT = np.float32(0)  # of the hue
NO_SOLARIZATION = np.float32(256)  # a threshold that no byte reaches
NEAREST, AREA, BILINEAR, BICUBIC = range(4)  # values of RESAMPLE
STEP_BRIGHTNESS, STEP_CONTRAST, STEP_SATURATION = range(3)  # digits of ORDER; 3 is hue

_neutral: list[float] = []


def _column(neutral: float = 0.0) -> int:
    """Declare the next column; return its index."""
    _neutral.append(float(neutral))
    return len(_neutral) - 1


TOP = _column()  # the crop, in pixels of the image
LEFT = _column()
HEIGHT = _column()
WIDTH = _column()
FLIP = _column()  # 0 or 1
ORDER = _column()  # of the colour steps: four base-4 digits, first step lowest
BRIGHTNESS = _column(UNCHANGED)
CONTRAST = _column(UNCHANGED)
SATURATION = _column(UNCHANGED)
HUE = _column(NO_SHIFT)  # turns
GRAY = _column()  # 0 or 1
RADIUS = _column()  # of the blur, taps on each side; 0: no blur
FALLOFF = _column()  # of the blur, exp(-1 / (2 sigma^2))
THRESHOLD = _column(NO_SOLARIZATION)
RESAMPLE = _column(BILINEAR)  # filter
DENOMINATOR = _column(
    1
)  # 2, 4, 8: the crop is a part of the image scaled by 1/2, 1/4, 1/8 in the DCT

NUM_COLUMNS = len(_neutral)
NEUTRAL = np.array(_neutral, np.float32)

STAGES = ("crop", "flip", "jitter", "gray", "blur", "solarize")
"""Names of the transforms that one render pass performs, in its order."""
