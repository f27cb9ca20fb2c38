"""The classes of the drawn images: silhouettes, patterns, and their combinations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating[Any]]

# Silhouettes: signed distance from the outline in units of the radius, negative inside. x and y are
# (H, W) float32 coordinates in the frame of the shape.


def disc(x: FloatArray, y: FloatArray) -> FloatArray:
    """Disc."""
    distance: FloatArray = np.hypot(x, y) - 0.85
    return distance


def ring(x: FloatArray, y: FloatArray) -> FloatArray:
    """Ring."""
    distance: FloatArray = np.abs(np.hypot(x, y) - 0.7) - 0.27
    return distance


def square(x: FloatArray, y: FloatArray) -> FloatArray:
    """Square."""
    distance: FloatArray = np.maximum(np.abs(x), np.abs(y)) - 0.75
    return distance


def bar(x: FloatArray, y: FloatArray) -> FloatArray:
    """Bar."""
    distance: FloatArray = np.maximum(np.abs(x) - 1.0, np.abs(y) - 0.38)
    return distance


def cross(x: FloatArray, y: FloatArray) -> FloatArray:
    """Cross."""
    x, y = np.abs(x), np.abs(y)
    distance: FloatArray = np.maximum(np.minimum(x, y) - 0.3, np.maximum(x, y) - 0.95)
    return distance


def triangle(x: FloatArray, y: FloatArray) -> FloatArray:
    """Equilateral triangle."""
    distance: FloatArray = np.maximum(-x, 0.5 * x + np.sqrt(0.75) * np.abs(y)) - 0.55
    return distance


def crescent(x: FloatArray, y: FloatArray) -> FloatArray:
    """Disc without a second disc."""
    distance: FloatArray = np.maximum(np.hypot(x, y) - 0.9, 0.75 - np.hypot(x - 0.55, y))
    return distance


def star(x: FloatArray, y: FloatArray) -> FloatArray:
    """Star with five points of radius 1 and notches of radius 0.42, folded to half a point."""
    half = np.pi / 5
    angle = np.abs((np.arctan2(y, x) + half) % (2 * half) - half)
    radius = np.hypot(x, y)
    along, across = radius * np.cos(angle), radius * np.sin(angle)
    edge_x, edge_y = 0.42 * np.cos(half) - 1, 0.42 * np.sin(half)
    distance: FloatArray = ((along - 1) * edge_y - across * edge_x) / np.hypot(edge_x, edge_y)
    return distance


# Patterns: weight of the first tone, 0 to 1. u and v are (H, W) float32 phases, 2π per period.


def plain(u: FloatArray, v: FloatArray) -> FloatArray:
    """One tone."""
    return np.ones_like(u)


def stripes(u: FloatArray, v: FloatArray) -> FloatArray:
    """Parallel stripes."""
    return _sharpen(np.sin(u))


def checks(u: FloatArray, v: FloatArray) -> FloatArray:
    """Checkerboard."""
    return _sharpen(1.2 * np.sin(0.8 * u) * np.sin(0.8 * v))


def dots(u: FloatArray, v: FloatArray) -> FloatArray:
    """Dots on a grid."""
    return _sharpen(0.34 * (1 + np.cos(0.8 * u)) * (1 + np.cos(0.8 * v)) - 0.56)


def circles(u: FloatArray, v: FloatArray) -> FloatArray:
    """Concentric circles."""
    return _sharpen(np.sin(np.hypot(u, v)))


def _sharpen(wave: FloatArray) -> FloatArray:
    """Convert a wave of -1 to 1 to a mask of 0 to 1 with soft edges."""
    mask: FloatArray = np.clip(0.5 + 1.6 * wave, 0, 1)
    return mask


Silhouette = Callable[[FloatArray, FloatArray], FloatArray]
Pattern = Callable[[FloatArray, FloatArray], FloatArray]

# Most silhouettes and all patterns occur in two classes, so neither alone identifies a class.
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
