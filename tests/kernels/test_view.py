"""The view kernel, compared with Pillow and with float64 references."""

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from ffcv_ssl.kernels import rows as col
from tests.reference import chain
from tests.reference.images import coordinates, photo_like
from tests.reference.kernel import IDENTITY, kernel_row, render_rows, render_view

FILTERS = {col.BILINEAR: Image.BILINEAR, col.AREA: Image.BOX, col.NEAREST: Image.NEAREST}
BOXES = [
    ((0, 0, 61, 83), (31, 47)),
    ((5, 9, 47, 33), (23, 64)),
    ((20, 30, 16, 16), (32, 32)),
    ((3, 2, 55, 80), (5, 3)),
    ((60, 82, 1, 1), (7, 9)),
    ((7, 0, 1, 83), (4, 4)),
    ((10, 10, 24, 24), (24, 24)),
]


def difference(a, b):
    """Return the largest difference in gray levels."""
    return np.abs(a.astype(int) - b.astype(int)).max()


def pillow_crop(image, box):
    top, left, height, width = box
    return Image.fromarray(image).crop((left, top, left + width, top + height))


@pytest.mark.parametrize("resample", FILTERS)
@pytest.mark.parametrize(("box", "size"), BOXES)
def test_resize__matches_pillow(box, size, resample):
    """Crop and resize differ from Pillow's by at most one gray level."""
    image = coordinates(61, 83)
    expected = np.asarray(pillow_crop(image, box).resize(size[::-1], FILTERS[resample]))
    assert difference(render_view(image, box, size, resample=resample), expected) <= 1


@pytest.mark.parametrize(("box", "size"), BOXES)
def test_bicubic__matches_the_float64_convolution(box, size):
    """Bicubic differs from the float64 convolution by at most one level.

    Pillow is not the reference because it clips between its passes.
    """
    image = coordinates(61, 83)
    expected = chain.rounded(chain.resized(image, box, size, support=2.0, weight=chain.cubic))
    assert difference(render_view(image, box, size, resample=col.BICUBIC), expected) <= 1


def test_resize__of_the_same_size_is_a_copy():
    """A box of the view's size gives the stored pixels, bit for bit."""
    image = coordinates(40, 50)
    np.testing.assert_array_equal(render_view(image, (3, 7, 21, 33), (21, 33)), image[3:24, 7:40])


def test_flip__mirrors_the_finished_view():
    """Flipping before or after resampling gives the same bits."""
    image = photo_like(61, 83)
    plain, flipped = (
        render_view(image, (5, 9, 47, 33), (23, 64), flip=flip) for flip in (False, True)
    )
    np.testing.assert_array_equal(flipped, plain[:, ::-1])


ENHANCERS = {
    "brightness": ImageEnhance.Brightness,
    "contrast": ImageEnhance.Contrast,
    "saturation": ImageEnhance.Color,
}
WHOLE = (0, 0, 45, 61)


@pytest.mark.parametrize("factor", [0.0, 0.2, 0.9, 1.1, 1.8])
@pytest.mark.parametrize("name", ENHANCERS)
def test_color_step__matches_pillow(name, factor):
    """Each enhancer differs from Pillow's by at most one gray level, on every pixel."""
    image = photo_like(45, 61)
    factors = [factor if step == name else 1 for step in ENHANCERS] + [0]
    expected = np.asarray(ENHANCERS[name](Image.fromarray(image)).enhance(factor))
    assert difference(render_view(image, WHOLE, WHOLE[2:], factors=factors), expected) <= 1


@pytest.mark.parametrize("shift", [-0.5, -0.2, -0.01, 0.01, 0.13, 0.5])
def test_hue__matches_float64_hsv(shift):
    """Hue differs from float64 HSV by at most one gray level, grays and primaries included."""
    image = photo_like(45, 61)
    image[0, :8] = [
        [0, 0, 0],
        [255, 255, 255],
        [7, 7, 7],
        [255, 0, 0],
        [0, 255, 0],
        [0, 0, 255],
        [255, 255, 0],
        [1, 0, 0],
    ]
    expected = chain.rounded(chain.hue(image, shift))
    assert difference(render_view(image, WHOLE, WHOLE[2:], factors=(1, 1, 1, shift)), expected) <= 1


def test_grayscale__equals_pillows_mode_l():
    """Grayscale equals Pillow's mode L exactly."""
    image = coordinates(45, 61)
    expected = np.asarray(Image.fromarray(image).convert("L"))
    for channel in np.moveaxis(render_view(image, WHOLE, WHOLE[2:], grayscale=True), 2, 0):
        np.testing.assert_array_equal(channel, expected)


@pytest.mark.parametrize("threshold", [0, 1, 128, 255, 256])
def test_solarize__equals_pillow(threshold):
    """Solarize equals Pillow's exactly."""
    image = coordinates(45, 61)
    expected = np.asarray(ImageOps.solarize(Image.fromarray(image), threshold))
    np.testing.assert_array_equal(
        render_view(image, WHOLE, WHOLE[2:], threshold=threshold), expected
    )


@pytest.mark.parametrize(
    ("sigma", "radius"), [(0.1, 1), (0.5, 2), (1.0, 3), (2.0, 6), (2.0, 1), (1.3, 20)]
)
@pytest.mark.parametrize("grayscale", [False, True])
def test_blur__matches_the_float64_convolution(sigma, radius, grayscale):
    """Blur differs from the float64 convolution by at most one level, borders included."""
    image = coordinates(45, 61)
    expected = chain.render(
        image, WHOLE, WHOLE[2:], sigma=sigma, radius=radius, grayscale=grayscale
    )
    assert (
        difference(
            render_view(image, WHOLE, WHOLE[2:], sigma=sigma, radius=radius, grayscale=grayscale),
            expected,
        )
        <= 1
    )


def test_white_and_black__survive_every_color_step():
    """White stays 255 and black 0 through grayscale, saturation and hue.

    Luma weights that sum to 0.9999 would give 254.
    """
    image = np.zeros((4, 6, 3), np.uint8)
    image[:, 3:] = 255
    for factors, grayscale in (
        ((1, 1, 0.3, 0), False),
        ((1, 1, 1.7, 0.3), False),
        ((1, 1, 1, 0), True),
    ):
        np.testing.assert_array_equal(
            render_view(image, (0, 0, 4, 6), (4, 6), factors=factors, grayscale=grayscale), image
        )


def test_contrast__uses_the_mean_of_its_input():
    """Brightness 2 then contrast 0 turns a flat 100 into 200.

    FFCV-SSL computes the mean once, before all steps, and gives 99.
    """
    image = np.full((5, 7, 3), 100, np.uint8)
    assert (
        render_view(image, (0, 0, 5, 7), (5, 7), order=(0, 1, 2, 3), factors=(2, 0, 1, 0)) == 200
    ).all()


@pytest.mark.parametrize("seed", range(24))
def test_chain__matches_the_float64_chain(seed):
    """In all 24 orders the chain differs from the float64 chain by at most one level."""
    import itertools

    rng = np.random.default_rng(seed)
    image = photo_like(61, 83, seed)
    options = {
        "flip": bool(seed % 2),
        "order": list(itertools.permutations(range(4)))[seed],
        "factors": [np.float32(f) for f in (*rng.uniform(0.2, 1.8, 3), rng.uniform(-0.5, 0.5))],
        "grayscale": seed % 5 == 0,
        "sigma": 1.7,
        "radius": 5 if seed % 3 == 0 else 0,
    }
    box, size = ((5, 9, 47, 53), (24, 31))
    got, expected = (
        render_view(image, box, size, **options),
        chain.render(image, box, size, **options),
    )
    assert difference(got, expected) <= 1
    assert (got != expected).mean() < 0.02


def test_views__are_independent_of_each_other():
    """A view's pixels do not depend on what was rendered before it in the same scratch."""
    image = photo_like(61, 83)
    rows = [
        kernel_row((0, 0, 61, 83)),
        kernel_row((5, 9, 47, 33), sigma=2.0, radius=6, factors=(1.5, 0.5, 1.2, 0.2)),
        kernel_row((20, 30, 16, 16)),
    ]
    together = render_rows(image, rows, (32, 32))
    for row, view in zip(rows, together, strict=True):
        np.testing.assert_array_equal(render_rows(image, [row], (32, 32))[0], view)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("channels_last", [False, True])
def test_output__is_the_lookup_of_the_uint8_view(dtype, channels_last):
    """Every dtype and layout is the channel's table applied to the uint8 view."""
    image = photo_like(61, 83)
    rows = [kernel_row((5, 9, 47, 33), threshold=128), kernel_row((0, 0, 61, 83), flip=True)]
    lut = (np.arange(768).reshape(3, 256) % 251).astype(dtype)
    views = render_rows(image, rows, (23, 31), IDENTITY)
    expected = np.stack([lut[c][views[:, c]] for c in range(3)], axis=3 if channels_last else 1)
    np.testing.assert_array_equal(render_rows(image, rows, (23, 31), lut, channels_last), expected)
