"""The reference chain: augmented views as a user of Pillow writes them, with the parameters of our presets.

The steps and their order are those of torchvision's PIL backend as SimCLR, BYOL and EMP-SSL compose it; the blur is
`ImageFilter.GaussianBlur`, which those codebases use with Pillow. The pixels are not compared here (`tests/` does that).
"""

import math
import random
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

ASPECT_RATIOS = (3 / 4, 4 / 3)
SIGMAS = (0.1, 2.0)
SOLARIZE_THRESHOLD = 128


@dataclass(frozen=True)
class ViewChain:
    """One view: crop, resize, flip, colour jitter, grey, blur, solarize.

    Parameters
    ----------
    size
        Side of the view, pixels.
    patch
        Side of a crop of fixed size; None: a crop of `scale` of the area and an aspect ratio of 3/4 to 4/3.
    jitter
        Strengths of brightness, contrast, saturation and hue; applied with `p_jitter`, in random order.
    p_gray, p_blur, p_solarize
        Probabilities.
    """

    size: int
    patch: int | None = None
    scale: tuple[float, float] = (0.08, 1.0)
    jitter: tuple[float, float, float, float] = (0.8, 0.8, 0.8, 0.2)
    p_jitter: float = 0.8
    p_gray: float = 0.2
    p_blur: float = 0.5
    p_solarize: float = 0.0

    def __call__(self, image: Image.Image, rng: random.Random) -> np.ndarray:
        """Render one view of an RGB image as (3, size, size) uint8."""
        box = patch_box(image.size, self.patch, rng) if self.patch else area_box(image.size, self.scale, rng)
        view = image.crop(box).resize((self.size, self.size), Image.Resampling.BILINEAR)
        if rng.random() < 0.5:
            view = view.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        if rng.random() < self.p_jitter:
            view = jittered(view, self.jitter, rng)
        if rng.random() < self.p_gray:
            view = view.convert("L").convert("RGB")
        if rng.random() < self.p_blur:
            view = view.filter(ImageFilter.GaussianBlur(rng.uniform(*SIGMAS)))
        if rng.random() < self.p_solarize:
            view = ImageOps.solarize(view, SOLARIZE_THRESHOLD)
        return np.asarray(view).transpose(2, 0, 1)


SIMCLR_224 = ViewChain(size=224)
EMP_SSL_32 = ViewChain(size=32, patch=16, jitter=(0.4, 0.4, 0.4, 0.2), p_blur=0.1, p_solarize=0.1)


def patch_box(size: tuple[int, int], patch: int, rng: random.Random) -> tuple[int, int, int, int]:
    """Return a square of `patch` pixels anywhere in the image, as Pillow's (left, top, right, bottom)."""
    left, top = (rng.randint(0, side - patch) for side in size)
    return left, top, left + patch, top + patch


def area_box(size: tuple[int, int], scale: tuple[float, float], rng: random.Random) -> tuple[int, int, int, int]:
    """Return torchvision's `RandomResizedCrop` box, centre fallback included, as Pillow's (left, top, right, bottom)."""
    width, height = size
    for _ in range(10):
        area = width * height * rng.uniform(*scale)
        aspect = math.exp(rng.uniform(*map(math.log, ASPECT_RATIOS)))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            left, top = rng.randint(0, width - w), rng.randint(0, height - h)
            return left, top, left + w, top + h
    aspect = min(max(width / height, ASPECT_RATIOS[0]), ASPECT_RATIOS[1])
    w, h = min(width, round(height * aspect)), min(height, round(width / aspect))
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h


def jittered(view: Image.Image, strengths: tuple[float, float, float, float], rng: random.Random) -> Image.Image:
    """Change brightness, contrast, saturation and hue in random order."""
    brightness, contrast, saturation, hue = strengths
    steps = [
        lambda v: ImageEnhance.Brightness(v).enhance(rng.uniform(1 - brightness, 1 + brightness)),
        lambda v: ImageEnhance.Contrast(v).enhance(rng.uniform(1 - contrast, 1 + contrast)),
        lambda v: ImageEnhance.Color(v).enhance(rng.uniform(1 - saturation, 1 + saturation)),
        lambda v: hue_shifted(v, rng.uniform(-hue, hue)),
    ]
    rng.shuffle(steps)
    for step in steps:
        view = step(view)
    return view


def hue_shifted(view: Image.Image, turns: float) -> Image.Image:
    """Turn the hue by a fraction of the circle, in Pillow's 8-bit HSV."""
    hue, saturation, value = view.convert("HSV").split()
    hue = hue.point([(level + round(turns * 255)) % 256 for level in range(256)])
    return Image.merge("HSV", (hue, saturation, value)).convert("RGB")
