"""Views that the CUDA kernels must render like the CPU kernel, small enough for the simulator."""

from dataclasses import dataclass

import numpy as np

from ffcv_ssl.kernels import rows as col
from tests.reference.images import photo_like
from tests.reference.kernel import kernel_row, render_rows

BYTES = np.tile(np.arange(256, dtype=np.uint8), (3, 1))
MEAN, STD = np.array([[120.0], [118.0], [110.0]]), np.array([[60.0], [61.0], [65.0]])
FLOATS = ((np.arange(256)[None] - MEAN) / STD).astype(np.float32)
HALVES = FLOATS.astype(np.float16).view(np.int16)
JITTER = {"factors": (1.3, 0.6, 1.5, -0.15)}


@dataclass(frozen=True)
class Case:
    """Images of any sizes, packed one after the other, and kernel rows of views of one size.

    `rows` is (N, V, NUM_COLUMNS). `sources` (N, V, 2) holds the byte offset of pixel (0, 0) and the
    bytes per row of each view's image.
    """

    name: str
    pixels: np.ndarray
    sources: np.ndarray
    rows: np.ndarray
    size: tuple[int, int]
    lut: np.ndarray
    channels_last: bool
    expected: np.ndarray


def case(name, images, rows, size, lut=BYTES, channels_last=False, part=None):
    """Pack the images, or the `part` (top, left, height, width) of each, and render on the CPU."""
    packed, sources, offset = [np.zeros(7, np.uint8)], [], 7  # images begin at odd offsets
    for image in images:
        top, left, height, width = part or (0, 0, *image.shape[:2])
        packed.append(image[top : top + height, left : left + width].reshape(-1))
        sources.append((offset - 3 * (top * width + left), 3 * width))
        offset += packed[-1].size
    rows = np.array(rows, np.float32)
    levels = np.stack(
        [render_rows(image, list(views), size) for image, views in zip(images, rows, strict=True)]
    )
    expected = np.stack(
        [lut[c][levels[:, :, c]] for c in range(3)], axis=-1 if channels_last else 2
    )
    view_sources = np.repeat(np.array(sources, np.int64)[:, None], rows.shape[1], axis=1)
    return Case(
        name, np.concatenate(packed), view_sources, rows, size, lut, channels_last, expected
    )


def cases():
    """Yield small and large views that cover every column of a row, every dtype and layout."""
    images = [photo_like(41, 47, 1), photo_like(29, 60, 2)]
    patches = [
        kernel_row((5, 9, 16, 16), order=(1, 0, 2, 3), **JITTER, radius=2, sigma=0.8),
        kernel_row((0, 3, 16, 15), order=(3, 2, 1, 0), **JITTER, flip=True, threshold=128),
        kernel_row((13, 7, 8, 9), grayscale=True, radius=1, sigma=0.4, flip=True),
        kernel_row(
            (1, 0, 27, 25),
            order=(2, 3, 0, 1),
            factors=(0.7, 1.4, 1, 0.2),
            grayscale=True,
            threshold=100.5,
        ),
    ]
    yield case("patches", images, [patches, patches[::-1]], (16, 16))
    yield case(
        "patches_halves", images, [patches[:2], patches[2:]], (15, 17), HALVES, channels_last=True
    )
    filters = [
        kernel_row((2, 1, 20, 40), resample=resample)
        for resample in (col.NEAREST, col.AREA, col.BILINEAR, col.BICUBIC)
    ]
    yield case("patches_filters", images, [filters, filters], (7, 9), FLOATS)
    yield case("patches_part", images, [patches[:3], patches[:3]], (9, 8), part=(0, 2, 25, 30))
    views = [
        kernel_row((3, 2, 26, 40), order=(1, 3, 0, 2), **JITTER, radius=3, sigma=1.1, flip=True),
        kernel_row((0, 0, 29, 47), order=(0, 3, 2, 1), **JITTER, threshold=128, flip=True),
        kernel_row((9, 9, 5, 6), grayscale=True, radius=2, sigma=0.6, threshold=90),
    ]
    yield case("views", images, [views[:2], views[1:]], (35, 67))
    tall = photo_like(600, 30, 3)  # scaled so far down that the weights of a large tile do not fit
    yield case(
        "views_shrunk",
        [tall],
        [[kernel_row((0, 0, 600, 30), order=(2, 1, 0, 3), **JITTER)]],
        (4, 40),
    )
    yield case("views_halves", images[:1], [views], (49, 48), HALVES, channels_last=True)
    yield case(
        "views_sharp",
        images[:1],
        [[views[1], kernel_row((0, 0, 41, 47), resample=col.BICUBIC)]],
        (64, 38),
        FLOATS,
    )
