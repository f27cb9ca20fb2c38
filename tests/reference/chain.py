"""Readable float64 versions of every pixel operation, for (H, W, 3) images in 0..255."""

import colorsys
import math

import numpy as np


def resize(image, box, size, support=1.0, weight=lambda x: max(1 - abs(x), 0)):
    """Resample a crop with antialiasing; `weight` is the filter at scale 1.

    `support` is its half width.
    """
    top, left, height, width = box
    crop = np.asarray(image, np.float64)[top : top + height, left : left + width]
    return _axis(size[1], width, support, weight) @ (
        _axis(size[0], height, support, weight) @ crop.transpose(2, 0, 1)
    ).transpose(0, 2, 1)


def _axis(size, source, support, weight):
    """Return the (size, source) matrix of normalized weights."""
    matrix = np.zeros((size, source))
    scale = max(source / size, 1.0)
    for i in range(size):
        center = (i + 0.5) * source / size
        for x in range(source):
            if abs(x + 0.5 - center) < support * scale + 1:
                matrix[i, x] = weight((x + 0.5 - center) / scale)
        matrix[i] /= matrix[i].sum()
    return matrix


def resized(image, box, size, **options):
    """Resample as `resize`, but return (h, w, 3)."""
    return resize(image, box, size, **options).transpose(2, 1, 0)


def cubic(x):
    """Evaluate the Catmull-Rom kernel, a = -0.5."""
    x = abs(x)
    if x < 1:
        return (1.5 * x - 2.5) * x * x + 1
    return ((-0.5 * x + 2.5) * x - 4) * x + 2 if x < 2 else 0.0


def luma(image):
    """Return the rounded BT.601 luma with Pillow's weights, (H, W)."""
    return np.floor(image @ (np.array([19595, 38470, 7471]) / 65536) + 0.5)


def brightness(image, factor):
    """Scale all values by a factor."""
    return np.clip(image * factor, 0, 255)


def contrast(image, factor):
    """Blend with the mean luma."""
    mean = math.floor(luma(image).mean() + 0.5)
    return np.clip(mean + factor * (image - mean), 0, 255)


def saturation(image, factor):
    """Blend with the luma of each pixel."""
    gray = luma(image)[..., None]
    return np.clip(gray + factor * (image - gray), 0, 255)


def hue(image, shift):
    """Rotate the hue by a fraction of a turn."""
    out = np.empty_like(image, dtype=np.float64)
    for index in np.ndindex(image.shape[:2]):
        h, s, v = colorsys.rgb_to_hsv(*(image[index] / 255.0))
        out[index] = colorsys.hsv_to_rgb((h + shift) % 1.0, s, v)
    return out * 255


def gray(image):
    """Replace each pixel by its luma."""
    return np.repeat(luma(image)[..., None], 3, axis=2)


def blur(image, sigma, radius):
    """Blur with a normalized Gaussian of `radius` taps on each side; reflect without the edge."""
    taps = np.exp(-(np.arange(-radius, radius + 1) ** 2) / (2 * sigma**2))
    taps /= taps.sum()
    for axis in (0, 1):
        padding = [(radius, radius) if a == axis else (0, 0) for a in range(3)]
        padded = np.pad(image, padding, mode="reflect")
        image = sum(
            tap * np.take(padded, np.arange(image.shape[axis]) + i, axis=axis)
            for i, tap in enumerate(taps)
        )
    return image


def solarize(image, threshold):
    """Invert rounded values from the threshold on."""
    return np.where(image >= threshold, 255 - image, image)


def rounded(image):
    """Round to uint8."""
    return np.floor(np.clip(image, 0, 255) + 0.5).astype(np.uint8)


STEPS = (brightness, contrast, saturation, hue)


def render(
    image,
    box,
    size,
    *,
    flip=False,
    order=(0, 1, 2, 3),
    factors=(1, 1, 1, 0),
    grayscale=False,
    sigma=0.0,
    radius=0,
    threshold=256,
):
    """Render one view with the whole chain, (h, w, 3) uint8."""
    view = resized(image, box, size)
    view = view[:, ::-1] if flip else view
    for step in order:
        view = STEPS[step](view, factors[step])
    view = gray(view) if grayscale else view
    view = blur(view, sigma, radius) if radius else view
    return solarize(rounded(view), threshold).astype(np.uint8)
