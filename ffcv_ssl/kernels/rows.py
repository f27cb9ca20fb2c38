"""Columns of a kernel row: the float32 values that tell a kernel how to render one view.

Each column is declared once, with its neutral value, which leaves the view unchanged. The pipeline
fills rows from the parameter table; columns that no transform fills keep their neutral value.
"""

import numpy as np

UNCHANGED = np.float32(1)  # factor of brightness, contrast and saturation
NO_SHIFT = np.float32(0)  # hue shift
NO_SOLARIZATION = np.float32(256)  # a threshold that no byte reaches
NEAREST, AREA, BILINEAR, BICUBIC = range(4)  # values of RESAMPLE
STEP_BRIGHTNESS, STEP_CONTRAST, STEP_SATURATION = range(3)  # digits of ORDER; 3 is hue

_neutral: list[float] = []


def _column(neutral: float | np.float32 = 0.0) -> int:
    """Declare the next column; return its index."""
    _neutral.append(float(neutral))
    return len(_neutral) - 1


TOP = _column()  # crop box, in pixels of the image
LEFT = _column()
HEIGHT = _column()
WIDTH = _column()
FLIP = _column()  # 0 or 1
ORDER = _column()  # order of the color steps: four base-4 digits, first step in the lowest digit
BRIGHTNESS = _column(UNCHANGED)
CONTRAST = _column(UNCHANGED)
SATURATION = _column(UNCHANGED)
HUE = _column(NO_SHIFT)  # turns
GRAY = _column()  # 0 or 1
RADIUS = _column()  # blur: taps on each side of the center; 0 disables the blur
FALLOFF = _column()  # blur: exp(-1 / (2 sigma^2))
THRESHOLD = _column(NO_SOLARIZATION)
RESAMPLE = _column(BILINEAR)  # resampling filter
DENOMINATOR = _column(1)  # 2, 4, 8: the crop lies in the image scaled by 1/2, 1/4, 1/8 in the DCT

NUM_COLUMNS = len(_neutral)
NEUTRAL = np.array(_neutral, np.float32)

STAGES = ("crop", "flip", "jitter", "gray", "blur", "solarize")
"""Names of the transforms that one render pass applies, in the order in which it applies them."""
