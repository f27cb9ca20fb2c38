"""What to decode of each image: crop boxes are known before any pixel is, so no more is decoded than the views need."""

from collections.abc import Sequence

import numpy as np

from ffcv_ssl.fields.image import MODE_RAW
from ffcv_ssl.kernels import rows as col

DECODES = ("exact", "full", "fast")
DENOMINATORS = (1, 2, 4, 8)  # of libjpeg's scaled decode
TOP, LEFT, HEIGHT, WIDTH, DENOMINATOR = range(5)  # columns of a box
CROP = [col.TOP, col.LEFT, col.HEIGHT, col.WIDTH]  # columns of a kernel row


def plan_boxes(decode: str, rows: Sequence[np.ndarray], sizes: np.ndarray) -> np.ndarray:
    """Return what to decode of each image.

    Parameters
    ----------
    decode
        "exact": the box around all views. "full": the whole image. "fast": one box for each scale at
        which views read the image (`scale_crops`).
    rows
        Per tensor (N, V, NUM_COLUMNS) float32 kernel rows of views of the stored image.
    sizes
        (N, 2) heights and widths of the stored images.

    Returns
    -------
    np.ndarray
        (N, levels, 5) int64: top, left, height, width in pixels of the image scaled by
        1 / denominator, and the denominator. A height of 0: nothing to decode at that level.
    """
    if decode == "full":
        whole = np.zeros((len(sizes), 1, 5), np.int64)
        whole[:, 0, HEIGHT : WIDTH + 1], whole[:, 0, DENOMINATOR] = sizes, 1
        return whole
    levels = DENOMINATORS if decode == "fast" else DENOMINATORS[:1]
    return np.stack([_box_around(rows, denominator) for denominator in levels], axis=1)


def scale_crops(
    rows: np.ndarray, view_size: tuple[int, int], sizes: np.ndarray, modes: np.ndarray
) -> None:
    """Let views read scaled images, for decode="fast": choose the scale of every view, and move its crop into the scaled image.

    A view whose crop is at least twice, 4 or 8 times as large as the view reads the image scaled by
    1/2, 1/4 or 1/8 in the DCT, chosen for each view as if it were alone. The crop is rounded to whole
    pixels of that image. Raw images are never scaled.

    Parameters
    ----------
    rows
        (N, V, NUM_COLUMNS) float32 kernel rows; changed in place.
    view_size
        Height and width of the views.
    sizes, modes
        (N, 2) heights and widths and (N,) modes of the stored images.
    """
    crops = rows[..., CROP].astype(np.int64)
    room = np.minimum(crops[..., 2] // view_size[0], crops[..., 3] // view_size[1])
    room[modes == MODE_RAW] = 1
    denominators = np.select(
        [room >= denominator for denominator in DENOMINATORS[:0:-1]], DENOMINATORS[:0:-1], 1
    )
    scaled = -(-sizes[:, None] // denominators[..., None])  # (N, V, 2), libjpeg rounds up
    ends = np.minimum(
        (2 * (crops[..., :2] + crops[..., 2:]) + denominators[..., None])
        // (2 * denominators[..., None]),
        scaled,
    )
    starts = np.minimum(crops[..., :2] // denominators[..., None], ends - 1)
    rows[..., CROP] = np.concatenate((starts, ends - starts), axis=-1)
    rows[..., col.DENOMINATOR] = denominators


def whole_box(size: Sequence[int]) -> np.ndarray:
    """Return the box (5,) of a whole image of some height and width."""
    return np.array([0, 0, *size, 1], np.int64)


def _box_around(rows: Sequence[np.ndarray], denominator: int) -> np.ndarray:
    """Return the box (N, 5) around all crops that read the image at one scale."""
    crops = np.concatenate([tensor_rows[..., CROP] for tensor_rows in rows], axis=1).astype(
        np.int64
    )
    chosen = (
        np.concatenate([tensor_rows[..., col.DENOMINATOR] for tensor_rows in rows], axis=1)
        == denominator
    )
    far = np.iinfo(np.int64).max
    starts = np.where(chosen[..., None], crops[..., :2], far).min(axis=1)
    ends = np.where(chosen[..., None], crops[..., :2] + crops[..., 2:], 0).max(axis=1)
    box = np.concatenate((starts, ends - starts, np.full((len(starts), 1), denominator)), axis=1)
    box[~chosen.any(axis=1), :DENOMINATOR] = 0
    return box
