"""A labelled image set that needs no download: ten kinds of textured shapes on cluttered backgrounds, drawn from a seed.

What makes the class is silhouette and pattern together. Colours, position, size, angle, phase of the pattern and background are drawn
from the same distribution for all classes, so that no mean colour and no single pixel tells them apart.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from ffcv_ssl.errors import SourceError
from ffcv_ssl.fields import Field, IntField

RADIUS = (0.32, 0.44)  # of the shapes, in sides of the image
PERIOD = (0.155, 0.21)  # of the patterns, likewise
LUMA = (20.0, 235.0)  # range of the two tones of a shape
MIN_CONTRAST = 90.0  # between them
TINT = 25.0  # standard deviation of a colour's channels around its luma
MIN_SIZE = 8


class Placement(NamedTuple):
    """Where a shape stands; lengths in sides of the image."""

    center_x: float
    center_y: float
    radius: float
    angle_rad: float
    period: float
    phase_rad: float


# Silhouettes: signed distances from the outline, negative inside, in radii; x and y are (H, W) float32 in the shape's own frame.


def disc(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.hypot(x, y) - 0.85


def ring(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.abs(np.hypot(x, y) - 0.7) - 0.27


def square(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.maximum(np.abs(x), np.abs(y)) - 0.75


def bar(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.maximum(np.abs(x) - 1.0, np.abs(y) - 0.38)


def cross(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    x, y = np.abs(x), np.abs(y)
    return np.maximum(np.minimum(x, y) - 0.3, np.maximum(x, y) - 0.95)


def triangle(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.maximum(-x, 0.5 * x + np.sqrt(0.75) * np.abs(y)) - 0.55


def crescent(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.maximum(np.hypot(x, y) - 0.9, 0.75 - np.hypot(x - 0.55, y))


def star(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Five points of length 1, notches of length 0.42: fold the plane into half a point, then one edge is left."""
    half = np.pi / 5
    angle = np.abs((np.arctan2(y, x) + half) % (2 * half) - half)
    radius = np.hypot(x, y)
    along, across = radius * np.cos(angle), radius * np.sin(angle)
    edge_x, edge_y = 0.42 * np.cos(half) - 1, 0.42 * np.sin(half)
    return ((along - 1) * edge_y - across * edge_x) / np.hypot(edge_x, edge_y)


# Patterns: share of the first tone, 0..1; u and v are (H, W) float32 angles that grow by 2π a period.


def plain(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.ones_like(u)


def stripes(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return _sharpen(np.sin(u))


def checks(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return _sharpen(1.2 * np.sin(0.8 * u) * np.sin(0.8 * v))


def dots(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return _sharpen(0.34 * (1 + np.cos(0.8 * u)) * (1 + np.cos(0.8 * v)) - 0.56)


def circles(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return _sharpen(np.sin(np.hypot(u, v)))


def _sharpen(wave: np.ndarray) -> np.ndarray:
    """A wave of -1..1 as a mask of 0..1 with soft edges."""
    return np.clip(0.5 + 1.6 * wave, 0, 1)


Silhouette = Callable[[np.ndarray, np.ndarray], np.ndarray]
Pattern = Callable[[np.ndarray, np.ndarray], np.ndarray]

# Most silhouettes and all patterns occur in two classes, so that neither alone is enough.
CLASSES: dict[str, tuple[Silhouette, Pattern]] = {
    "striped disc": (disc, stripes),
    "dotted square": (square, dots),
    "checked triangle": (triangle, checks),
    "plain star": (star, plain),
    "striped cross": (cross, stripes),
    "plain ring": (ring, plain),
    "square target": (square, circles),
    "dotted crescent": (crescent, dots),
    "checked bar": (bar, checks),
    "triangular target": (triangle, circles),
}


class ShapesDataset:
    """Drawn images with labels, as an indexable dataset; sample i depends on seed, size and i alone.

    Parameters
    ----------
    num_samples
        How many; sample i has class i mod 10.
    seed
        Of the drawing, in [0, 2**64); two seeds share no image.
    size
        Side of the images in pixels, at least 8.

    Raises
    ------
    SourceError
        If an argument is out of its range.
    """

    def __init__(self, num_samples: int, seed: int = 0, size: int = 32):
        self.num_samples = _at_least("num_samples", num_samples, 1)
        self.seed = _at_least("seed", seed, 0)
        self.size = _at_least("size", size, MIN_SIZE)
        if self.seed >= 2**64:
            raise SourceError(f"ShapesDataset: seed is below 2**64, got {seed}.")

    @property
    def class_names(self) -> list[str]:
        """By label."""
        return list(CLASSES)

    def __len__(self) -> int:
        return self.num_samples

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        """Draw one sample: (size, size, 3) uint8 RGB, and its label."""
        if not 0 <= index < self.num_samples:
            raise IndexError(f"sample {index} of {self.num_samples}.")
        rng = np.random.Generator(np.random.Philox(key=np.array([self.seed, index], np.uint64)))
        label = index % len(CLASSES)
        return draw(rng, *list(CLASSES.values())[label], self.size), label

    def fields(self, image_field: Field) -> dict[str, Field]:
        """The fields to write: `image` as given, and `label`."""
        return {"image": image_field, "label": IntField()}

    def describe(self) -> dict:
        """What the file is to remember of its origin, fit for JSON."""
        return {
            "source": "shapes",
            "num_samples": self.num_samples,
            "seed": self.seed,
            "size": self.size,
        }


def draw(
    rng: np.random.Generator, silhouette: Silhouette, pattern: Pattern, size: int
) -> np.ndarray:
    """Draw one shape on a background of its own.

    Parameters
    ----------
    rng
        All random numbers; as many are taken for one shape as for any other.
    silhouette, pattern
        The class.
    size
        Side in pixels.

    Returns
    -------
    np.ndarray
        (size, size, 3) uint8 RGB.
    """
    image = background(rng, size)
    place = _placement(rng)
    light, dark = two_tones(rng)
    x, y = _own_frame(place.center_x, place.center_y, place.angle_rad, size)
    coverage = _coverage(silhouette(x / place.radius, y / place.radius) * place.radius, size)
    frequency = 2 * np.pi / place.period
    share = pattern(frequency * x + place.phase_rad, frequency * y + place.phase_rad)[..., None]
    image += coverage * (dark + share * (light - dark) - image)
    return np.clip(image + 0.5, 0, 255).astype(np.uint8)


def background(rng: np.random.Generator, size: int) -> np.ndarray:
    """Clouds of a tinted grey under a few strokes, (size, size, 3) float32, roughly 0..255."""
    num_knots = int(rng.integers(3, 6))
    knots = rng.normal(0, 22, (num_knots, num_knots, 1)) + rng.normal(
        0, 12, (num_knots, num_knots, 3)
    )
    knots += rng.uniform(30, 225) + rng.normal(0, TINT, 3)
    weights = _interpolation(num_knots, size)
    image = np.einsum("yi,xj,ijc->yxc", weights, weights, knots.astype(np.float32), optimize=True)
    for _ in range(int(rng.integers(3, 7))):
        x, y = _own_frame(rng.uniform(), rng.uniform(), rng.uniform(0, np.pi), size)
        half_length, half_width = rng.uniform(0.03, 0.22), rng.uniform(0.02, 0.045)
        color = (rng.uniform(30, 225) + rng.normal(0, TINT, 3)).astype(np.float32)
        stroke = np.maximum(np.abs(x) - half_length, np.abs(y) - half_width)
        image += 0.8 * _coverage(stroke, size) * (color - image)
    return image


def two_tones(rng: np.random.Generator) -> np.ndarray:
    """Two colours, (2, 3) float32, `MIN_CONTRAST` or more apart in luma; either may be the light one."""
    contrast = rng.uniform(MIN_CONTRAST, LUMA[1] - LUMA[0])
    darker = rng.uniform(LUMA[0], LUMA[1] - contrast)
    lumas = np.array([[darker], [darker + contrast]])
    colors = lumas + rng.normal(0, TINT, (2, 3))
    return (colors if rng.uniform() < 0.5 else colors[::-1]).astype(np.float32)


def _placement(rng: np.random.Generator) -> Placement:
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
) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates of the pixels' centres from a point, turned by an angle, (size, size) float32 each, in sides of the image."""
    steps = _pixel_centers(size)
    right, down = steps - np.float32(center_x), (steps - np.float32(center_y))[:, None]
    cos, sin = np.float32(np.cos(angle_rad)), np.float32(np.sin(angle_rad))
    return cos * right + sin * down, cos * down - sin * right


def _coverage(distance: np.ndarray, size: int) -> np.ndarray:
    """Share of each pixel inside an outline, (H, W, 1) in 0..1, from its signed distance in sides of the image."""
    return np.clip(0.5 - distance * size, 0, 1)[..., None]


@lru_cache(maxsize=8)
def _pixel_centers(size: int) -> np.ndarray:
    return ((np.arange(size) + 0.5) / size).astype(np.float32)


@lru_cache(maxsize=32)
def _interpolation(num_knots: int, size: int) -> np.ndarray:
    """Weights (size, num_knots) float32 of linear interpolation between equally spaced knots."""
    position = _pixel_centers(size)[:, None] * (num_knots - 1)
    return np.maximum(0, 1 - np.abs(position - np.arange(num_knots))).astype(np.float32)


def _at_least(name: str, value: int, lowest: int) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        raise SourceError(f"ShapesDataset: {name} is an integer, got {value!r}.") from None
    if number < lowest:
        raise SourceError(f"ShapesDataset: {name} is at least {lowest}, got {value}.")
    return number
