"""A labeled image set that needs no download: ten kinds of patterned shapes on clutter.

Silhouette and pattern together define the class. Colors, position, size, angle, phase of the
pattern and background have the same distribution for all classes, so neither the mean color nor a
single pixel distinguishes them.
"""

from __future__ import annotations

import operator
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ffcv_ssl.errors import SourceError
from ffcv_ssl.fields import Field, IntField
from ffcv_ssl.recipes.demo.classes import CLASSES, FloatArray, Pattern, Silhouette

RADIUS = (0.32, 0.44)  # range of the radius of a shape, as a fraction of the image side
PERIOD = (0.155, 0.21)  # range of the period of a pattern, as a fraction of the image side
LUMA = (20.0, 235.0)  # range of the two tones of a shape
MIN_CONTRAST = 90.0  # between the two tones
TINT = 25.0  # standard deviation of the channels of a color around its luma
MIN_SIZE = 8


class Placement(NamedTuple):
    """Position, size and orientation of a shape; lengths are fractions of the image side.

    Parameters
    ----------
    center_x, center_y
        Center of the shape from the left and from the top.
    radius
        Radius of the shape.
    angle_rad
        Clockwise rotation in radians.
    period
        Period of the pattern.
    phase_rad
        Phase of the pattern in radians.
    """

    center_x: float
    center_y: float
    radius: float
    angle_rad: float
    period: float
    phase_rad: float


class ShapesDataset:
    """Indexable dataset of drawn images with labels.

    Sample i depends on seed, size and i only, and has class i mod 10.

    Parameters
    ----------
    num_samples
        Number of samples, >= 1.
    seed
        Seed of all random numbers, 0 to 2**64 - 1. Different seeds give different images.
    size
        Side of the images in pixels, >= 8.

    Raises
    ------
    SourceError
        If an argument is out of its range.

    Examples
    --------
    >>> from ffcv_ssl.recipes.demo.shapes import ShapesDataset
    >>> dataset = ShapesDataset(100, seed=1)
    >>> image, label = dataset[13]
    >>> image.shape, dataset.class_names[label]
    ((32, 32, 3), 'plain star')
    """

    def __init__(self, num_samples: int, seed: int = 0, size: int = 32):
        self.num_samples = _at_least("num_samples", num_samples, 1)
        self.seed = _at_least("seed", seed, 0)
        self.size = _at_least("size", size, MIN_SIZE)
        if self.seed >= 2**64:
            raise SourceError(f"ShapesDataset: seed is below 2**64, got {seed}.")

    @property
    def class_names(self) -> list[str]:
        """Names in the order of the labels."""
        return list(CLASSES)

    def __len__(self) -> int:
        return self.num_samples

    def __getitem__(self, index: int) -> tuple[NDArray[np.uint8], int]:
        """Draw one sample: a (size, size, 3) uint8 RGB image and its label."""
        if not 0 <= index < self.num_samples:
            raise IndexError(f"sample {index} of {self.num_samples}.")
        rng = np.random.Generator(np.random.Philox(key=np.array([self.seed, index], np.uint64)))
        label = index % len(CLASSES)
        return draw(rng, *list(CLASSES.values())[label], self.size), label

    def fields(self, image_field: Field) -> dict[str, Field]:
        """Return the fields of the file to write.

        Parameters
        ----------
        image_field
            Field that encodes the images.

        Returns
        -------
        dict
            `image` and `label`.
        """
        return {"image": image_field, "label": IntField()}

    def describe(self) -> dict[str, Any]:
        """Return the origin of the images, serializable as JSON."""
        return {
            "source": "shapes",
            "num_samples": self.num_samples,
            "seed": self.seed,
            "size": self.size,
        }


def draw(
    rng: np.random.Generator, silhouette: Silhouette, pattern: Pattern, size: int
) -> NDArray[np.uint8]:
    """Draw one shape on a random background.

    Parameters
    ----------
    rng
        Source of all random numbers. Every class takes the same number of them.
    silhouette, pattern
        Functions that define the class.
    size
        Side of the image in pixels.

    Returns
    -------
    ndarray
        (size, size, 3) uint8 RGB.
    """
    image = background(rng, size)
    placement = _placement(rng)
    light, dark = two_tones(rng)
    x, y = _own_frame(placement.center_x, placement.center_y, placement.angle_rad, size)
    coverage = _coverage(
        silhouette(x / placement.radius, y / placement.radius) * placement.radius, size
    )
    frequency = 2 * np.pi / placement.period
    weight = pattern(frequency * x + placement.phase_rad, frequency * y + placement.phase_rad)[
        ..., None
    ]
    image += coverage * (dark + weight * (light - dark) - image)
    pixels: NDArray[np.uint8] = np.clip(image + 0.5, 0, 255).astype(np.uint8)
    return pixels


def background(rng: np.random.Generator, size: int) -> FloatArray:
    """Draw a background of tinted gray clouds and a few strokes.

    Parameters
    ----------
    rng
        Source of all random numbers.
    size
        Side of the image in pixels.

    Returns
    -------
    ndarray
        (size, size, 3) float32, approximately 0 to 255.
    """
    num_knots = int(rng.integers(3, 6))
    knots = rng.normal(0, 22, (num_knots, num_knots, 1)) + rng.normal(
        0, 12, (num_knots, num_knots, 3)
    )
    knots += rng.uniform(30, 225) + rng.normal(0, TINT, 3)
    weights = _interpolation(num_knots, size)
    image: FloatArray = np.einsum(
        "yi,xj,ijc->yxc", weights, weights, knots.astype(np.float32), optimize=True
    )
    for _ in range(int(rng.integers(3, 7))):
        x, y = _own_frame(rng.uniform(), rng.uniform(), rng.uniform(0, np.pi), size)
        half_length, half_width = rng.uniform(0.03, 0.22), rng.uniform(0.02, 0.045)
        color = (rng.uniform(30, 225) + rng.normal(0, TINT, 3)).astype(np.float32)
        stroke = np.maximum(np.abs(x) - half_length, np.abs(y) - half_width)
        image += 0.8 * _coverage(stroke, size) * (color - image)
    return image


def two_tones(rng: np.random.Generator) -> FloatArray:
    """Draw two colors whose luma differs by at least `MIN_CONTRAST`.

    Parameters
    ----------
    rng
        Source of all random numbers.

    Returns
    -------
    ndarray
        (2, 3) float32; either color may be the lighter one.
    """
    contrast = rng.uniform(MIN_CONTRAST, LUMA[1] - LUMA[0])
    darker = rng.uniform(LUMA[0], LUMA[1] - contrast)
    lumas = np.array([[darker], [darker + contrast]])
    colors = lumas + rng.normal(0, TINT, (2, 3))
    return (colors if rng.uniform() < 0.5 else colors[::-1]).astype(np.float32)


def _placement(rng: np.random.Generator) -> Placement:
    """Draw a placement."""
    radius = rng.uniform(*RADIUS)
    margin = 0.8 * radius  # a shape may leave the image with its corners only
    center_x, center_y = rng.uniform(margin, 1 - margin, 2)
    return Placement(
        center_x,
        center_y,
        radius,
        rng.uniform(0, 2 * np.pi),
        rng.uniform(*PERIOD),
        rng.uniform(0, 2 * np.pi),
    )


def _own_frame(
    center_x: float, center_y: float, angle_rad: float, size: int
) -> tuple[FloatArray, FloatArray]:
    """Return the x and y coordinates of all pixel centers in a shifted and rotated frame.

    Both are (size, size) float32 in fractions of the image side.
    """
    steps = _pixel_centers(size)
    right, down = steps - np.float32(center_x), (steps - np.float32(center_y))[:, None]
    cos, sin = np.float32(np.cos(angle_rad)), np.float32(np.sin(angle_rad))
    return cos * right + sin * down, cos * down - sin * right


def _coverage(distance: FloatArray, size: int) -> FloatArray:
    """Return how much of each pixel is inside an outline, (H, W, 1), 0 to 1.

    `distance` is the (H, W) signed distance from the outline in fractions of the image side.
    """
    coverage: FloatArray = np.clip(0.5 - distance * size, 0, 1)[..., None]
    return coverage


@lru_cache(maxsize=8)
def _pixel_centers(size: int) -> FloatArray:
    """Return (size,) coordinates of pixel centers as fractions of the image side."""
    return ((np.arange(size) + 0.5) / size).astype(np.float32)


@lru_cache(maxsize=32)
def _interpolation(num_knots: int, size: int) -> FloatArray:
    """Return (size, num_knots) weights of linear interpolation between equally spaced knots."""
    position = _pixel_centers(size)[:, None] * (num_knots - 1)
    weights: FloatArray = np.maximum(0, 1 - np.abs(position - np.arange(num_knots)))
    return weights.astype(np.float32)


def _at_least(name: str, value: int, lowest: int) -> int:
    """Return an argument as an int; raise SourceError if it is not one or is too small."""
    try:
        number = operator.index(value)
    except TypeError:
        raise SourceError(f"ShapesDataset: {name} is an integer, got {value!r}.") from None
    if number < lowest:
        raise SourceError(f"ShapesDataset: {name} is at least {lowest}, got {value}.")
    return number
