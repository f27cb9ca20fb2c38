"""Crops: the part of the image that a view shows, and the view's size."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ffcv_ssl.errors import PipelineError
from ffcv_ssl.kernels import rows as col
from ffcv_ssl.transforms.base import Columns, KernelTransform, check_range, uniform_between
from ffcv_ssl.transforms.keys import Keys

FILTERS = {
    "nearest": col.NEAREST,
    "area": col.AREA,
    "bilinear": col.BILINEAR,
    "bicubic": col.BICUBIC,
}
MAX_SIDE = 4096  # largest side of a view, in pixels
ATTEMPTS = 10  # of torchvision's RandomResizedCrop, before it uses the central box

Sides = NDArray[np.int64]
Boxes = tuple[Sides, Sides, Sides, Sides]


@dataclass(frozen=True)
class Crop(KernelTransform):
    """Base of all crops: a box in pixels of the stored image, resampled to `size`.

    Parameters
    ----------
    size
        Height and width of the view in pixels, each in 1..4096. One integer makes the view square.
    interpolation
        "bilinear" (default), "bicubic", "area" or "nearest". All but "nearest" are antialiased, as
        in Pillow.
    seed
        Seed that replaces the loader's seed for this transform; None (default) uses the loader's.

    Raises
    ------
    PipelineError
        If `size` is out of range or `interpolation` is unknown.
    """

    size: int | tuple[int, int]
    interpolation: str = "bilinear"
    seed: int | None = None

    name: ClassVar[str] = "crop"
    columns: ClassVar[Mapping[str, int]] = {
        "top": col.TOP,
        "left": col.LEFT,
        "height": col.HEIGHT,
        "width": col.WIDTH,
    }

    def __post_init__(self) -> None:
        size = self.size if isinstance(self.size, (tuple, list)) else (self.size, self.size)
        if len(size) != 2 or not all(
            isinstance(side, (int, np.integer)) and 1 <= side <= MAX_SIDE for side in size
        ):
            raise PipelineError(
                f"{type(self).__name__}: size must be one or two integers in 1..{MAX_SIDE}, "
                f"got {self.size!r}."
            )
        object.__setattr__(self, "size", (int(size[0]), int(size[1])))
        if self.interpolation not in FILTERS:
            raise PipelineError(
                f"{type(self).__name__}: interpolation must be one of {', '.join(FILTERS)}, "
                f"got {self.interpolation!r}."
            )

    def boxes(self, keys: Keys, heights: Sides, widths: Sides) -> Boxes:
        """Draw the boxes of a batch.

        Parameters
        ----------
        keys
            Random numbers of this transform.
        heights, widths
            (N, V) int64, sizes of the stored images in pixels.

        Returns
        -------
        top, left, height, width
            (N, V) int64 each, in pixels of the stored image.
        """
        raise PipelineError(
            "Crop is a base class; use Resize, CenterCrop, RandomResizedCrop or another crop."
        )

    def draw(self, keys: Keys, sizes: NDArray[np.integer[Any]], table: Columns) -> None:
        """Draw the boxes."""
        heights, widths = (
            np.broadcast_to(sizes[:, axis, None].astype(np.int64), keys.shape) for axis in (0, 1)
        )
        boxes = self.boxes(keys, heights, widths)
        for parameter, values in zip(self.parameters, boxes, strict=True):
            table[parameter] = values

    def fill(self, table: Columns, rows: NDArray[np.float32], size: tuple[int, int]) -> None:
        """Copy the boxes and set the filter."""
        super().fill(table, rows, size)
        rows[..., col.RESAMPLE] = FILTERS[self.interpolation]


@dataclass(frozen=True)
class Resize(Crop):
    """Resample the whole image to `size`.

    Parameters
    ----------
    size
        Height and width of the view in pixels, each in 1..4096. One integer makes the view square.
    interpolation
        "bilinear" (default), "bicubic", "area" or "nearest". All but "nearest" are antialiased, as
        in Pillow.
    seed
        Has no effect, because this crop draws no random numbers.

    Raises
    ------
    PipelineError
        If `size` is out of range or `interpolation` is unknown.

    Examples
    --------
    >>> from ffcv_ssl.transforms import Resize
    >>> pipeline = [Resize((64, 96), "bicubic")]
    """

    def boxes(self, keys: Keys, heights: Sides, widths: Sides) -> Boxes:
        """Return the whole image."""
        return np.zeros_like(heights), np.zeros_like(heights), heights, widths


@dataclass(frozen=True)
class CenterCrop(Crop):
    """Cut the central square of the image and resample it to `size` (FFCV's CenterCrop).

    Parameters
    ----------
    size
        Height and width of the view in pixels, each in 1..4096. One integer makes the view square.
    interpolation
        "bilinear" (default), "bicubic", "area" or "nearest". All but "nearest" are antialiased, as
        in Pillow.
    seed
        Has no effect, because this crop draws no random numbers.
    ratio
        Side of the square, as a fraction of the image's shorter side, in (0, 1].

    Raises
    ------
    PipelineError
        If `size` or `ratio` is out of range or `interpolation` is unknown.

    Examples
    --------
    >>> from ffcv_ssl.transforms import CenterCrop
    >>> pipeline = [CenterCrop(224, ratio=0.875)]
    """

    ratio: float = 224 / 256

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.ratio <= 1:
            raise PipelineError(
                f"{type(self).__name__}: ratio must be in (0, 1], got {self.ratio!r}."
            )

    def boxes(self, keys: Keys, heights: Sides, widths: Sides) -> Boxes:
        """Return the central square."""
        side = np.maximum((self.ratio * np.minimum(heights, widths)).astype(np.int64), 1)
        return (heights - side) // 2, (widths - side) // 2, side, side


@dataclass(frozen=True)
class RandomResizedCrop(Crop):
    """Cut a random box out of the image and resample it to `size`.

    The boxes have the distribution of `torchvision.transforms.RandomResizedCrop`.

    Parameters
    ----------
    size
        Height and width of the view in pixels, each in 1..4096. One integer makes the view square.
    interpolation
        "bilinear" (default), "bicubic", "area" or "nearest". All but "nearest" are antialiased, as
        in Pillow.
    seed
        Seed that replaces the loader's seed for this transform; None (default) uses the loader's.
    scale
        Range (low, high) of the box's area as a fraction of the image's area, within [0, 1].
    ratio
        Range (low, high) of the box's width / height, within [0.001, 1000]; drawn log-uniformly.

    Raises
    ------
    PipelineError
        If `size`, `scale` or `ratio` is out of range or `interpolation` is unknown.

    Examples
    --------
    >>> from ffcv_ssl.transforms import RandomResizedCrop
    >>> pipeline = [RandomResizedCrop(224, scale=(0.2, 1.0))]
    """

    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)

    def __post_init__(self) -> None:
        super().__post_init__()
        name = type(self).__name__
        object.__setattr__(self, "scale", check_range(name, "scale", self.scale, 0, 1))
        object.__setattr__(self, "ratio", check_range(name, "ratio", self.ratio, 1e-3, 1e3))
        if self.scale[1] == 0:
            raise PipelineError(f"{name}: scale (0, 0) gives empty boxes.")

    def boxes(self, keys: Keys, heights: Sides, widths: Sides) -> Boxes:
        """Draw boxes until they fit in their images; use the central box after `ATTEMPTS` draws."""
        box = np.stack(central_boxes(heights, widths, self.ratio))
        pending = np.ones(keys.shape, bool)
        log_ratio = math.log(self.ratio[0]), math.log(self.ratio[1])
        for attempt in range(ATTEMPTS):
            full_height, full_width = heights[pending], widths[pending]
            fraction = uniform_between(keys.uniform("area", attempt, pending), self.scale)
            log_aspect = uniform_between(keys.uniform("ratio", attempt, pending), log_ratio)
            area = full_height * full_width * fraction.astype(np.float64)
            aspect = np.exp(log_aspect.astype(np.float64)).astype(np.float32)
            width = np.rint(np.sqrt(area * aspect)).astype(np.int64)
            height = np.rint(np.sqrt(area / aspect)).astype(np.int64)
            top = random_offset(keys.uniform("top", attempt, pending), full_height - height)
            left = random_offset(keys.uniform("left", attempt, pending), full_width - width)
            fits = (height > 0) & (width > 0) & (height <= full_height) & (width <= full_width)
            chosen = pending.copy()
            chosen[pending] = fits
            box[:, chosen] = np.stack((top, left, height, width))[:, fits]
            pending &= ~chosen
            if not pending.any():
                break
        return box[0], box[1], box[2], box[3]


def random_offset(uniforms: NDArray[np.float32], largest: Sides) -> Sides:
    """Convert uniforms in [0, 1) to integers uniform in 0..`largest` (inclusive)."""
    return (uniforms.astype(np.float64) * (largest + 1)).astype(np.int64)


def central_boxes(heights: Sides, widths: Sides, ratio: tuple[float, float]) -> Boxes:
    """Return the largest central boxes with width / height in `ratio`, torchvision's fallback."""
    aspect: NDArray[Any] = widths / heights
    width = np.where(aspect > ratio[1], np.rint(heights * ratio[1]).astype(np.int64), widths)
    height = np.where(aspect < ratio[0], np.rint(widths / ratio[0]).astype(np.int64), heights)
    width, height = np.clip(width, 1, widths), np.clip(height, 1, heights)
    return (heights - height) // 2, (widths - width) // 2, height, width
