"""Parts of the images to decode.

The crop boxes are known before an image is decoded, so only the part that the views need is
decoded.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ffcv_ssl.fields.image import MODE_RAW
from ffcv_ssl.kernels import rows as col

DECODES = ("exact", "full", "fast")
DENOMINATORS = (1, 2, 4, 8)  # of the scales 1 / d at which libjpeg can decode
TOP, LEFT, HEIGHT, WIDTH, DENOMINATOR = range(5)  # columns of a box
CROP = [col.TOP, col.LEFT, col.HEIGHT, col.WIDTH]  # columns of a kernel row


def plan_boxes(
    decode: str, rows: Sequence[NDArray[np.float32]], sizes: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Compute the part of each image to decode.

    Parameters
    ----------
    decode
        "exact": the smallest box that contains all crops. "full": the whole image. "fast": one such
        box for each scale at which views read the image (see `scale_crops`).
    rows
        For each tensor (N, V, NUM_COLUMNS) float32, the kernel rows of views of the stored images.
    sizes
        (N, 2) int64, heights and widths of the stored images.

    Returns
    -------
    numpy.ndarray
        (N, levels, 5) int64: top, left, height and width in pixels of the image scaled by
        1 / denominator, and the denominator. A level with height 0 is not decoded.
    """
    if decode == "full":
        boxes = np.zeros((len(sizes), 1, 5), np.int64)
        boxes[:, 0, HEIGHT : WIDTH + 1], boxes[:, 0, DENOMINATOR] = sizes, 1
        return boxes
    denominators = DENOMINATORS if decode == "fast" else DENOMINATORS[:1]
    return np.stack([_bounding_boxes(rows, denominator) for denominator in denominators], axis=1)


def scale_crops(
    rows: NDArray[np.float32],
    view_size: tuple[int, int],
    sizes: NDArray[np.int64],
    modes: NDArray[np.uint8],
) -> None:
    """Choose the scale at which each view reads its image, for decode="fast".

    A view whose crop is at least 2, 4 or 8 times as large as the view reads the image scaled by
    1/2, 1/4 or 1/8 in the DCT. The crop is rounded to whole pixels of the scaled image. The choice
    does not depend on other views. Raw images are never scaled.

    Parameters
    ----------
    rows
        (N, V, NUM_COLUMNS) float32 kernel rows; the columns of the crop and the denominator are
        overwritten.
    view_size
        Height and width of the views.
    sizes
        (N, 2) int64, heights and widths of the stored images.
    modes
        (N,) uint8, modes of the stored images.
    """
    crops = rows[..., CROP].astype(np.int64)
    ratios = np.minimum(crops[..., 2] // view_size[0], crops[..., 3] // view_size[1])
    ratios[modes == MODE_RAW] = 1
    candidates = DENOMINATORS[:0:-1]  # 8, 4, 2
    denominators = np.select([ratios >= candidate for candidate in candidates], candidates, 1)
    divisors = denominators[..., None]
    scaled_sizes = -(-sizes[:, None] // divisors)  # (N, V, 2); libjpeg rounds up
    starts, ends = crops[..., :2], crops[..., :2] + crops[..., 2:]
    scaled_ends = np.minimum((2 * ends + divisors) // (2 * divisors), scaled_sizes)
    scaled_starts = np.minimum(starts // divisors, scaled_ends - 1)
    rows[..., CROP] = np.concatenate((scaled_starts, scaled_ends - scaled_starts), axis=-1)
    rows[..., col.DENOMINATOR] = denominators


def whole_box(size: Sequence[int] | NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the box of a whole image, (5,) int64, given its height and width."""
    return np.array([0, 0, *size, 1], np.int64)


def _bounding_boxes(rows: Sequence[NDArray[np.float32]], denominator: int) -> NDArray[np.int64]:
    """Return the bounding boxes (N, 5) of all crops that read the images at one scale."""
    crops = np.concatenate([each[..., CROP] for each in rows], axis=1).astype(np.int64)
    denominators = np.concatenate([each[..., col.DENOMINATOR] for each in rows], axis=1)
    is_read = denominators == denominator
    infinity = np.iinfo(np.int64).max
    starts = np.where(is_read[..., None], crops[..., :2], infinity).min(axis=1)
    ends = np.where(is_read[..., None], crops[..., :2] + crops[..., 2:], 0).max(axis=1)
    column = np.full((len(starts), 1), denominator)
    boxes = np.concatenate((starts, ends - starts, column), axis=1)
    boxes[~is_read.any(axis=1), :DENOMINATOR] = 0
    return boxes
