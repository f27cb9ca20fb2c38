"""Which part of the image a view shows, and at what size."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

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
MAX_SIDE = 4096  # of a view
ATTEMPTS = 10  # of torchvision's RandomResizedCrop, before it falls back to the centre


@dataclass(frozen=True)
class Crop(KernelTransform):
    """Base of all crops: a box (top, left, height, width) in pixels, resampled to `size`.

    Parameters
    ----------
    size
        Height and width of the view in pixels; one integer makes it square.
    interpolation
        "bilinear" (default), "bicubic", "area" or "nearest"; all antialiased but the last, as in Pillow.
    seed
        Replaces the loader's seed for this transform's columns.
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

    def __post_init__(self):
        size = self.size if isinstance(self.size, (tuple, list)) else (self.size, self.size)
        if len(size) != 2 or not all(
            isinstance(side, (int, np.integer)) and 1 <= side <= MAX_SIDE for side in size
        ):
            raise PipelineError(
                f"{type(self).__name__}: size is one or two integers in 1..{MAX_SIDE}, got {self.size!r}."
            )
        object.__setattr__(self, "size", (int(size[0]), int(size[1])))
        if self.interpolation not in FILTERS:
            raise PipelineError(
                f"{type(self).__name__}: interpolation is one of {', '.join(FILTERS)}, got {self.interpolation!r}."
            )

    def boxes(self, keys: Keys, heights: np.ndarray, widths: np.ndarray) -> tuple[np.ndarray, ...]:
        """Return top, left, height and width, (N, V) integers, for images of the given (N, V) sizes."""
        raise PipelineError("Crop is the base of the crops; use one of them.")

    def draw(self, keys: Keys, sizes: np.ndarray, table: Columns) -> None:
        """Draw the boxes."""
        heights, widths = (
            np.broadcast_to(sizes[:, axis, None].astype(np.int64), keys.shape) for axis in (0, 1)
        )
        for parameter, values in zip(
            self.parameters, self.boxes(keys, heights, widths), strict=True
        ):
            table[parameter] = values

    def fill(self, table: Columns, rows: np.ndarray, size: tuple[int, int]) -> None:
        """Copy the boxes and name the filter."""
        super().fill(table, rows, size)
        rows[..., col.RESAMPLE] = FILTERS[self.interpolation]


@dataclass(frozen=True)
class Resize(Crop):
    """Show the whole image, resampled to `size`."""

    def boxes(self, keys, heights, widths):
        return np.zeros_like(heights), np.zeros_like(heights), heights, widths


@dataclass(frozen=True)
class CenterCrop(Crop):
    """Cut the central square whose side is `ratio` times the image's shorter side (FFCV's CenterCrop)."""

    ratio: float = 224 / 256

    def __post_init__(self):
        super().__post_init__()
        if not 0 < self.ratio <= 1:
            raise PipelineError(f"{type(self).__name__}: ratio is in (0, 1], got {self.ratio!r}.")

    def boxes(self, keys, heights, widths):
        side = np.maximum((self.ratio * np.minimum(heights, widths)).astype(np.int64), 1)
        return (heights - side) // 2, (widths - side) // 2, side, side


@dataclass(frozen=True)
class RandomResizedCrop(Crop):
    """Cut a random part of the image and resample it to `size`, as `torchvision.transforms.RandomResizedCrop`.

    Parameters
    ----------
    scale
        Range of the box's share of the image area.
    ratio
        Range of width / height of the box, drawn log-uniformly.
    """

    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)

    def __post_init__(self):
        super().__post_init__()
        name = type(self).__name__
        object.__setattr__(self, "scale", check_range(name, "scale", self.scale, 0, 1))
        object.__setattr__(self, "ratio", check_range(name, "ratio", self.ratio, 1e-3, 1e3))
        if self.scale[1] == 0:
            raise PipelineError(f"{name}: scale (0, 0) leaves no box.")

    def boxes(self, keys, heights, widths):
        box = np.stack(central_boxes(heights, widths, self.ratio))
        pending = np.ones(keys.shape, bool)
        log_ratio = math.log(self.ratio[0]), math.log(self.ratio[1])
        for attempt in range(ATTEMPTS):
            full_height, full_width = heights[pending], widths[pending]
            area = (
                full_height
                * full_width
                * uniform_between(keys.uniform("area", attempt, pending), self.scale).astype(
                    np.float64
                )
            )
            aspect = np.exp(
                uniform_between(keys.uniform("ratio", attempt, pending), log_ratio).astype(
                    np.float64
                )
            ).astype(np.float32)
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
        return tuple(box)


@dataclass(frozen=True)
class RandomPatchCrop(Crop):
    """Cut a patch of fixed size at a uniform integer position and resample it to `size` (EMP-SSL).

    Parameters
    ----------
    patch
        Height and width of the patch in pixels of the stored image; a smaller image gives all it has.
    """

    patch: int | tuple[int, int] = 16

    def __post_init__(self):
        super().__post_init__()
        patch = self.patch if isinstance(self.patch, (tuple, list)) else (self.patch, self.patch)
        if len(patch) != 2 or not all(
            isinstance(side, (int, np.integer)) and side >= 1 for side in patch
        ):
            raise PipelineError(
                f"RandomPatchCrop: patch is one or two positive integers, got {self.patch!r}."
            )
        object.__setattr__(self, "patch", (int(patch[0]), int(patch[1])))

    def boxes(self, keys, heights, widths):
        height, width = np.minimum(heights, self.patch[0]), np.minimum(widths, self.patch[1])
        return (
            random_offset(keys.uniform("top"), heights - height),
            random_offset(keys.uniform("left"), widths - width),
            height,
            width,
        )


@dataclass(frozen=True)
class FixedPatchCrop(Crop):
    """Cut a patch of fixed size at a fixed place and resample it to `size`.

    Parameters
    ----------
    patch
        Side of the patch in pixels of the stored image, a smaller image gives all it has; below 1: its share of the image's area, in the
        image's aspect.
    place
        How far down and how far right, each as a share, 0..1, of the room that the patch has in the image.
    """

    patch: int | float = 16
    place: tuple[float, float] = (0.5, 0.5)

    def __post_init__(self):
        super().__post_init__()
        if not (0 < self.patch < 1 or (self.patch >= 1 and self.patch == int(self.patch))):
            raise PipelineError(
                f"FixedPatchCrop: patch is a positive number of pixels, or a share below 1, got {self.patch!r}."
            )
        if len(self.place) != 2 or not all(0 <= share <= 1 for share in self.place):
            raise PipelineError(
                f"FixedPatchCrop: place is two shares in [0, 1], got {self.place!r}."
            )

    def boxes(self, keys, heights, widths):
        height, width = (self._side(sides) for sides in (heights, widths))
        top, left = (
            np.floor(share * (sides - side) + 0.5).astype(np.int64)
            for share, sides, side in zip(
                self.place, (heights, widths), (height, width), strict=True
            )
        )
        return top, left, height, width

    def _side(self, sides: np.ndarray) -> np.ndarray:
        """Side of the patch along one axis."""
        if self.patch >= 1:
            return np.minimum(sides, int(self.patch))
        return np.maximum(np.rint(sides * math.sqrt(self.patch)).astype(np.int64), 1)


def random_offset(uniforms: np.ndarray, room: np.ndarray) -> np.ndarray:
    """Return integers uniform in 0..room (inclusive)."""
    return (uniforms.astype(np.float64) * (room + 1)).astype(np.int64)


def central_boxes(
    heights: np.ndarray, widths: np.ndarray, ratio: tuple[float, float]
) -> tuple[np.ndarray, ...]:
    """Return torchvision's fallback: the largest central box whose width / height lies in `ratio`."""
    aspect = widths / heights
    width = np.where(aspect > ratio[1], np.rint(heights * ratio[1]).astype(np.int64), widths)
    height = np.where(aspect < ratio[0], np.rint(widths / ratio[0]).astype(np.int64), heights)
    width, height = np.clip(width, 1, widths), np.clip(height, 1, heights)
    return (heights - height) // 2, (widths - width) // 2, height, width
