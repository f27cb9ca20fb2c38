"""The part of each image to decode."""

import numpy as np
import pytest

from ffcv_ssl.fields.image import MODE_JPEG, MODE_RAW
from ffcv_ssl.kernels import rows as col
from ffcv_ssl.loader.render.boxes import CROP, plan_boxes, scale_crops

SIZES = np.array([[375, 500], [61, 83]])
JPEGS = np.full(2, MODE_JPEG, np.uint8)


def rows_of(*crops):
    """Kernel rows of two samples with the same crops (top, left, height, width)."""
    rows = np.tile(col.NEUTRAL, (2, len(crops), 1))
    rows[..., CROP] = crops
    return rows


def test_exact__decodes_the_box_around_all_views():
    """The box is the bounding box of all crops of all tensors."""
    rows = [rows_of((10, 20, 30, 25), (5, 40, 8, 11)), rows_of((12, 3, 40, 7))]
    boxes = plan_boxes("exact", rows, SIZES)
    np.testing.assert_array_equal(boxes, [[[5, 3, 47, 48, 1]]] * 2)


def test_full__decodes_everything():
    """The box is the whole image, whatever the views need."""
    boxes = plan_boxes("full", [rows_of((10, 20, 30, 25))], SIZES)
    np.testing.assert_array_equal(boxes[:, 0], [[0, 0, 375, 500, 1], [0, 0, 61, 83, 1]])


@pytest.mark.parametrize(
    ("crop", "denominator"),
    [
        ((0, 0, 31, 64), 1),
        ((0, 0, 32, 64), 2),
        ((0, 0, 63, 83), 2),
        ((0, 0, 64, 64), 4),
        ((0, 0, 128, 127), 4),
        ((100, 60, 128, 200), 8),
    ],
)
def test_fast__reads_the_smallest_scale_that_needs_no_enlargement(crop, denominator):
    """A view of 16 x 16 reads at 1 / d if its crop has at least 16 d pixels on both sides."""
    rows = rows_of(crop)
    scale_crops(rows, (16, 16), np.array([[375, 500], [375, 500]]), JPEGS)
    assert (rows[..., col.DENOMINATOR] == denominator).all()
    np.testing.assert_allclose(rows[0, 0, CROP] * denominator, crop, atol=denominator)


def test_fast__chooses_for_each_view_alone():
    """A view's scale and crop do not depend on the other views of its image."""
    crops = [(3, 5, 130, 140), (11, 13, 33, 35), (0, 0, 17, 19)]
    together = rows_of(*crops)
    scale_crops(together, (16, 16), np.array([[375, 500]] * 2), JPEGS)
    boxes = plan_boxes("fast", [together], np.array([[375, 500]] * 2))
    for index, crop in enumerate(crops):
        alone = rows_of(crop)
        scale_crops(alone, (16, 16), np.array([[375, 500]] * 2), JPEGS)
        np.testing.assert_array_equal(alone[:, 0], together[:, index])
    assert (boxes[:, :, 2] > 0).tolist() == [[True, True, False, True]] * 2


def test_fast__stays_inside_the_scaled_image():
    """Scaled crops have at least one pixel and lie inside the image that libjpeg decodes."""
    generator = np.random.default_rng(0)
    sizes = generator.integers(1, 400, (500, 2))
    starts = generator.integers(0, sizes)
    crops = np.concatenate((starts, 1 + generator.integers(0, sizes - starts)), axis=1)
    rows = np.tile(col.NEUTRAL, (500, 1, 1))
    rows[:, 0, CROP] = crops
    scale_crops(rows, (5, 3), sizes, np.full(500, MODE_JPEG, np.uint8))
    boxes = plan_boxes("fast", [rows], sizes)
    scaled = -(-sizes // rows[:, 0, col.DENOMINATOR].astype(int)[:, None])
    got = rows[:, 0, CROP].astype(int)
    assert set(rows[:, 0, col.DENOMINATOR]) == {1, 2, 4, 8}
    assert (got[:, :2] >= 0).all()
    assert (got[:, 2:] >= 1).all()
    assert (got[:, :2] + got[:, 2:] <= scaled).all()
    used = boxes[boxes[:, :, 2] > 0]
    np.testing.assert_array_equal(used[:, :4], got)


def test_fast__leaves_raw_images_alone():
    """Raw images have no DCT."""
    rows = rows_of((3, 0, 50, 60))
    scale_crops(rows, (16, 16), SIZES, np.full(2, MODE_RAW, np.uint8))
    np.testing.assert_array_equal(rows, rows_of((3, 0, 50, 60)))
