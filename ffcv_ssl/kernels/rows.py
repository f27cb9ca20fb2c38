"""Columns of a kernel row: what one view needs to know, float32, in this order.

The pipeline fills rows from the parameter table; columns that no transform draws keep their neutral value.
"""

import numpy as np

TOP, LEFT, HEIGHT, WIDTH, FLIP, ORDER, BRIGHTNESS, CONTRAST, SATURATION, HUE, GRAY, RADIUS, FALLOFF, THRESHOLD, RESAMPLE = range(15)
NUM_COLUMNS = 15

# Box, flip (0 or 1), order of the colour steps (four base-4 digits, first step lowest), their factors, hue shift (turns),
# grey (0 or 1), blur radius (taps on each side; 0: no blur) and exp(-1 / (2 sigma^2)), solarize threshold (256: none),
# resampling filter.
NEUTRAL = np.array([0, 0, 0, 0, 0, 0, 1, 1, 1, 0, 0, 0, 0, 256, 2], np.float32)

STEP_BRIGHTNESS, STEP_CONTRAST, STEP_SATURATION = range(3)  # digits of ORDER; 3 is hue
NEAREST, AREA, BILINEAR, BICUBIC = range(4)  # resampling filters
