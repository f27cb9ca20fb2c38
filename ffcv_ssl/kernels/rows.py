"""Columns of a kernel row: what one view needs to know, float32, in this order.

The pipeline fills rows from the parameter table; columns that no transform draws keep their neutral value.
"""

import numpy as np

(
    TOP, LEFT, HEIGHT, WIDTH, FLIP, ORDER, BRIGHTNESS, CONTRAST, SATURATION, HUE, GRAY, RADIUS, FALLOFF, THRESHOLD, RESAMPLE, DENOMINATOR,
) = range(16)  # fmt: skip
NUM_COLUMNS = 16

# Box, flip (0 or 1), order of the colour steps (four base-4 digits, first step lowest), their factors, hue shift (turns),
# grey (0 or 1), blur radius (taps on each side; 0: no blur) and exp(-1 / (2 sigma^2)), solarize threshold (256: none),
# resampling filter, and of which decode the box is a part (1: full size; 2, 4, 8: the image scaled by that in the DCT).
NEUTRAL = np.array([0, 0, 0, 0, 0, 0, 1, 1, 1, 0, 0, 0, 0, 256, 2, 1], np.float32)

STEP_BRIGHTNESS, STEP_CONTRAST, STEP_SATURATION = range(3)  # digits of ORDER; 3 is hue
NEAREST, AREA, BILINEAR, BICUBIC = range(4)  # resampling filters
