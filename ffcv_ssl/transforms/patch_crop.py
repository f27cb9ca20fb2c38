"""Crops of fixed size: patches at random and at fixed positions."""

import math
from dataclasses import dataclass

import numpy as np

from ffcv_ssl.errors import PipelineError
from ffcv_ssl.transforms.crop import Boxes, Crop, Sides, random_offset
from ffcv_ssl.transforms.keys import Keys


@dataclass(frozen=True)
class RandomPatchCrop(Crop):
    """Cut a patch of fixed size at a random position and resample it to `size` (EMP-SSL).

    All integer positions inside the image are equally likely.

    Parameters
    ----------
    size
        Height and width of the view in pixels, each in 1..4096. One integer makes the view square.
    interpolation
        "bilinear" (default), "bicubic", "area" or "nearest". All but "nearest" are antialiased, as
        in Pillow.
    seed
        Seed that replaces the loader's seed for this transform; None (default) uses the loader's.
    patch
        Height and width of the patch in pixels of the stored image, >= 1. One integer makes the
        patch square. In a smaller image the patch is as large as the image.

    Raises
    ------
    PipelineError
        If `size` or `patch` is out of range or `interpolation` is unknown.

    Examples
    --------
    >>> from ffcv_ssl.transforms import RandomPatchCrop
    >>> pipeline = [RandomPatchCrop(32, patch=16)]
    """

    patch: int | tuple[int, int] = 16

    def __post_init__(self) -> None:
        super().__post_init__()
        patch = self.patch if isinstance(self.patch, (tuple, list)) else (self.patch, self.patch)
        if len(patch) != 2 or not all(
            isinstance(side, (int, np.integer)) and side >= 1 for side in patch
        ):
            raise PipelineError(
                f"RandomPatchCrop: patch must be one or two positive integers, got {self.patch!r}."
            )
        object.__setattr__(self, "patch", (int(patch[0]), int(patch[1])))

    def boxes(self, keys: Keys, heights: Sides, widths: Sides) -> Boxes:
        """Draw the positions of the patches."""
        assert isinstance(self.patch, tuple)
        height, width = np.minimum(heights, self.patch[0]), np.minimum(widths, self.patch[1])
        top = random_offset(keys.uniform("top"), heights - height)
        left = random_offset(keys.uniform("left"), widths - width)
        return top, left, height, width


@dataclass(frozen=True)
class FixedPatchCrop(Crop):
    """Cut a patch of fixed size at a fixed position and resample it to `size`.

    Parameters
    ----------
    size
        Height and width of the view in pixels, each in 1..4096. One integer makes the view square.
    interpolation
        "bilinear" (default), "bicubic", "area" or "nearest". All but "nearest" are antialiased, as
        in Pillow.
    seed
        Has no effect, because this crop draws no random numbers.
    patch
        Side of the square patch in pixels of the stored image, an integer >= 1. In a smaller image
        the patch is as large as the image. A value in (0, 1) is the patch's fraction of the image's
        area instead; the patch then has the image's aspect ratio.
    place
        (vertical, horizontal) position of the patch, each in [0, 1]: 0 aligns it with the top or
        left border, 0.5 centers it, and 1 aligns it with the bottom or right border.

    Raises
    ------
    PipelineError
        If `size`, `patch` or `place` is out of range or `interpolation` is unknown.

    Examples
    --------
    >>> from ffcv_ssl.transforms import FixedPatchCrop
    >>> pipeline = [FixedPatchCrop(32, patch=16, place=(0.0, 0.5))]
    """

    patch: int | float = 16
    place: tuple[float, float] = (0.5, 0.5)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (0 < self.patch < 1 or (self.patch >= 1 and self.patch == int(self.patch))):
            raise PipelineError(
                "FixedPatchCrop: patch must be a positive integer (pixels) or a fraction of the "
                f"area in (0, 1), got {self.patch!r}."
            )
        if len(self.place) != 2 or not all(0 <= fraction <= 1 for fraction in self.place):
            raise PipelineError(
                f"FixedPatchCrop: place must be two numbers in [0, 1], got {self.place!r}."
            )

    def boxes(self, keys: Keys, heights: Sides, widths: Sides) -> Boxes:
        """Return the boxes of the patches."""
        height, width = self._patch_sides(heights), self._patch_sides(widths)
        vertical, horizontal = self.place
        top = np.floor(vertical * (heights - height) + 0.5).astype(np.int64)
        left = np.floor(horizontal * (widths - width) + 0.5).astype(np.int64)
        return top, left, height, width

    def _patch_sides(self, sides: Sides) -> Sides:
        """Return the patch's side along one axis, for the given sides of the images."""
        if self.patch >= 1:
            return np.minimum(sides, int(self.patch))
        patch_sides: Sides = np.rint(sides * math.sqrt(self.patch)).astype(np.int64)
        return np.maximum(patch_sides, 1)
