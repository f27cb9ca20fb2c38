"""Augmentations written with Pillow alone, in the worker processes of torch's DataLoader.

The operations and their order are those of torchvision's PIL backend, as SimCLR, BYOL and EMP-SSL
compose them. The blur is `ImageFilter.GaussianBlur`, which those codebases use with Pillow.
"""

import math
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from dataloader import Chain, DataLoaderContestant
from protocol import need, serve

ASPECT_RATIOS = (3 / 4, 4 / 3)


class PillowChain:
    """Callable that renders one view of a PIL image as a (3, S, S) uint8 tensor.

    Parameters
    ----------
    view
        Entry of `job["views"]`.
    """

    def __init__(self, view: dict[str, Any]):
        self.view = view

    def __call__(self, image: Any) -> torch.Tensor:
        from PIL import Image, ImageFilter, ImageOps

        spec, size = self.view, self.view["size"]
        image = image.crop(crop_box(image.size, spec)).resize(
            (size, size), Image.Resampling.BILINEAR
        )
        if random.random() < spec["flip"]:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        if random.random() < spec["jitter_p"]:
            image = jittered(image, spec["jitter"])
        if random.random() < spec["gray"]:
            image = image.convert("L").convert("RGB")
        if random.random() < spec["blur"]:
            image = image.filter(ImageFilter.GaussianBlur(random.uniform(*spec["sigma"])))
        if random.random() < spec["solarize"]:
            image = ImageOps.solarize(image, 128)
        return torch.from_numpy(np.asarray(image).transpose(2, 0, 1).copy())


def crop_box(size: tuple[int, int], spec: dict[str, Any]) -> tuple[int, int, int, int]:
    """Draw the crop box (left, top, right, bottom) of a view in an image of (width, height)."""
    if spec["crop"] == "center":
        side = max(1, int(spec["ratio"] * min(size)))
        left, top = ((length - side) // 2 for length in size)
        return left, top, left + side, top + side
    if spec["crop"] == "patch":
        left, top = (random.randint(0, length - spec["patch"]) for length in size)
        return left, top, left + spec["patch"], top + spec["patch"]
    return area_box(size, spec["scale"])


def area_box(size: tuple[int, int], scale: tuple[float, float]) -> tuple[int, int, int, int]:
    """Draw the crop box of torchvision's `RandomResizedCrop`, including its central fallback."""
    width, height = size
    for _ in range(10):
        area = width * height * random.uniform(*scale)
        aspect = math.exp(random.uniform(*map(math.log, ASPECT_RATIOS)))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            left, top = random.randint(0, width - w), random.randint(0, height - h)
            return left, top, left + w, top + h
    aspect = min(max(width / height, ASPECT_RATIOS[0]), ASPECT_RATIOS[1])
    w, h = min(width, round(height * aspect)), min(height, round(width / aspect))
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h


def jittered(image: Any, strengths: tuple[float, float, float, float]) -> Any:
    """Change brightness, contrast, saturation and hue in random order."""
    from PIL import ImageEnhance

    brightness, contrast, saturation, hue = strengths
    steps = [
        lambda v: ImageEnhance.Brightness(v).enhance(
            random.uniform(1 - brightness, 1 + brightness)
        ),
        lambda v: ImageEnhance.Contrast(v).enhance(random.uniform(1 - contrast, 1 + contrast)),
        lambda v: ImageEnhance.Color(v).enhance(random.uniform(1 - saturation, 1 + saturation)),
        lambda v: hue_shifted(v, random.uniform(-hue, hue)),
    ]
    random.shuffle(steps)
    for step in steps:
        image = step(image)
    return image


def hue_shifted(image: Any, turns: float) -> Any:
    """Rotate the hue by a fraction of a turn, in Pillow's 8-bit HSV."""
    from PIL import Image

    hue, saturation, value = image.convert("HSV").split()
    hue = hue.point([(level + round(turns * 255)) % 256 for level in range(256)])
    return Image.merge("HSV", (hue, saturation, value)).convert("RGB")


class Pillow(DataLoaderContestant):
    """Contestant with Pillow in a DataLoader."""

    def make_chains(self, views: list[dict[str, Any]]) -> Iterator[Chain]:
        need("PIL", "; install pillow")
        self.notes += ["hue has 8 bits"] if any(view["jitter_p"] for view in views) else []
        self.notes += (
            ["blur by Pillow's box filters"] if any(view["blur"] for view in views) else []
        )
        return (PillowChain(view) for view in views)


if __name__ == "__main__":
    serve(Pillow, ("pillow", "torch"))
