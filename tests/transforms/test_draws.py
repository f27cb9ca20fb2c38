"""Sampling distributions of all transforms, and reproducibility of the draws."""

import itertools
import math
import random
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from ffcv_ssl.errors import PipelineError
from ffcv_ssl.transforms import (
    CenterCrop,
    FixedPatchCrop,
    GaussianBlur,
    MultiView,
    NormalizeImage,
    RandomColorJitter,
    RandomGrayscale,
    RandomHorizontalFlip,
    RandomPatchCrop,
    RandomResizedCrop,
    RandomSolarization,
    Resize,
)
from ffcv_ssl.transforms.keys import Keys

N = 20_000
P_LEVEL = 1e-3  # of the Kolmogorov-Smirnov tests; the seeds are fixed, so results do not vary


def draw(transform, height=375, width=500, n=N, seed=0, epoch=0, views=(0,)):
    """Draw the columns of `n` samples of one size, each (n, V)."""
    table = {}
    sizes = np.broadcast_to(np.array([height, width], np.int32), (n, 2))
    transform.draw(
        Keys(seed, epoch, np.arange(n), views).for_transform(transform.name, transform.seed),
        sizes,
        table,
    )
    return table


def torchvision_crop(height, width, scale, ratio, rng):
    """Draw one box like torchvision's RandomResizedCrop.get_params."""
    for _ in range(10):
        area = height * width * rng.uniform(*scale)
        aspect = math.exp(rng.uniform(math.log(ratio[0]), math.log(ratio[1])))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            return rng.randint(0, height - h), rng.randint(0, width - w), h, w
    aspect = width / height
    if aspect < ratio[0]:
        w, h = width, round(width / ratio[0])
    elif aspect > ratio[1]:
        w, h = round(height * ratio[1]), height
    else:
        w, h = width, height
    return (height - h) // 2, (width - w) // 2, h, w


@pytest.mark.parametrize("seed", [None, 7])
@pytest.mark.parametrize(
    ("height", "width", "scale"),
    [(375, 500, (0.08, 1.0)), (32, 32, (0.2, 1.0)), (300, 900, (0.5, 1.0))],
)
def test_random_resized_crop__draws_like_torchvision(height, width, scale, seed):
    """Position, size, area and shape of the boxes are distributed as in torchvision."""
    table = draw(RandomResizedCrop(224, scale=scale, seed=seed), height, width)
    ours = np.stack([table[column][:, 0] for column in ("top", "left", "height", "width")], axis=1)
    rng = random.Random(1)
    theirs = np.array(
        [torchvision_crop(height, width, scale, (3 / 4, 4 / 3), rng) for _ in range(N)], float
    )
    for a, b in zip(columns_of(ours), columns_of(theirs), strict=True):
        assert stats.ks_2samp(a, b).pvalue > P_LEVEL
    assert (ours[:, 2] != ours[:, 3]).mean() > 0.5


def columns_of(boxes):
    """Return top, left, height, width, area and log ratio of every box."""
    top, left, height, width = boxes.T
    return top, left, height, width, height * width, np.log(width / height)


@pytest.mark.parametrize(
    ("height", "width"), [(1, 1), (1, 500), (500, 1), (2, 40), (3, 3), (300, 3000), (65535, 3)]
)
def test_every_crop__stays_inside_its_image(height, width):
    """Boxes contain at least one pixel and lie inside the image, for any shape of image."""
    for crop in (
        RandomResizedCrop(8),
        RandomPatchCrop(8, patch=16),
        CenterCrop(8, ratio=0.875),
        Resize(8),
    ):
        table = draw(crop, height, width, n=500)
        assert (table["top"] >= 0).all()
        assert (table["left"] >= 0).all()
        assert (table["height"] >= 1).all()
        assert (table["width"] >= 1).all()
        assert (table["top"] + table["height"] <= height).all()
        assert (table["left"] + table["width"] <= width).all()


def test_random_resized_crop__falls_back_to_the_center():
    """If no box fits, the largest central box of an allowed shape is used, as in torchvision."""
    table = draw(RandomResizedCrop(8, scale=(1.0, 1.0)), 300, 3000, n=200)
    assert {
        tuple(int(table[column][i, 0]) for column in ("top", "left", "height", "width"))
        for i in range(200)
    } == {(0, 1300, 300, 400)}


def test_random_patch_crop__draws_all_offsets_uniformly():
    """All 289 positions of a 16-pixel patch in 32 pixels are equally likely (chi square)."""
    table = draw(RandomPatchCrop(32, patch=16), 32, 32)
    counts = np.bincount((table["top"] * 17 + table["left"]).astype(int).ravel(), minlength=289)
    assert len(counts) == 289
    assert stats.chisquare(counts).pvalue > P_LEVEL


def test_center_crop__equals_ffcv():
    """The box is the central square whose side is `ratio` times the shorter side."""
    table = draw(CenterCrop(224, ratio=0.875), 375, 500, n=1)
    assert [int(table[column][0, 0]) for column in ("top", "left", "height", "width")] == [
        23,
        86,
        328,
        328,
    ]


FREQUENCIES = [
    (lambda p, seed: RandomHorizontalFlip(p, seed), lambda t: t["applied"] == 1),
    (lambda p, seed: RandomGrayscale(p, seed), lambda t: t["applied"] == 1),
    (lambda p, seed: GaussianBlur(p, seed=seed), lambda t: t["sigma"] > 0),
    (lambda p, seed: RandomSolarization(p, seed=seed), lambda t: t["threshold"] == 128),
    (lambda p, seed: RandomColorJitter(p, seed=seed), lambda t: t["brightness"] != 1),
]


@pytest.mark.parametrize("seed", [None, 5])
@pytest.mark.parametrize(("make", "applied"), FREQUENCIES)
def test_probability__is_the_frequency(make, applied, seed):
    """With p = 0 a transform never acts, with p = 1 always, otherwise with frequency p."""
    assert not applied(draw(make(0.0, seed))).any()
    assert applied(draw(make(1.0, seed))).mean() > 0.9999  # a factor may be drawn as exactly 1
    for p in (0.1, 0.5, 0.8):
        assert abs(applied(draw(make(p, seed))).mean() - p) < 0.015


def test_color_jitter__draws_uniform_factors_and_orders():
    """Factors are uniform in torchvision's ranges, and all 24 orders are equally likely."""
    table = draw(RandomColorJitter(1.0, 0.4, 0.8, (0.5, 0.9), 0.2))
    for column, low, high in (
        ("brightness", 0.6, 1.4),
        ("contrast", 0.2, 1.8),
        ("saturation", 0.5, 0.9),
        ("hue", -0.2, 0.2),
    ):
        assert stats.kstest(table[column].ravel(), "uniform", (low, high - low)).pvalue > P_LEVEL
    orders, counts = np.unique(table["order"], return_counts=True)
    assert len(orders) == 24
    assert all(
        sorted(int(order) // 4**digit % 4 for digit in range(4)) == [0, 1, 2, 3] for order in orders
    )
    assert stats.chisquare(counts).pvalue > P_LEVEL


def test_blur__draws_sigma_uniformly():
    """Sigma is uniform in its range."""
    assert (
        stats.kstest(
            draw(GaussianBlur(1.0, sigma=(0.1, 2.0)))["sigma"].ravel(), "uniform", (0.1, 1.9)
        ).pvalue
        > P_LEVEL
    )


def neighbors():
    """Yield uniforms of pairs of keys that differ by one in one word or have two words swapped."""
    base = {"seed": 3, "epoch": 4, "views": (5,)}
    yield draw_uniforms(**base), draw_uniforms(**{**base, "seed": 4})
    yield draw_uniforms(**base), draw_uniforms(**{**base, "epoch": 5})
    yield draw_uniforms(**base), draw_uniforms(**{**base, "views": (6,)})
    yield (
        draw_uniforms(**base)[1:],
        draw_uniforms(**{**base, "seed": 4})[:-1],
    )  # seed s sample i + 1 against seed s + 1 sample i
    yield draw_uniforms(seed=3, epoch=4, views=(5,)), draw_uniforms(seed=4, epoch=3, views=(5,))
    yield draw_uniforms(**base)[1:], draw_uniforms(**base)[:-1]
    yield draw_uniforms(**base), draw_uniforms(**base, parameter="left")
    yield draw_uniforms(**base), draw_uniforms(**base, attempt=1)


def draw_uniforms(seed, epoch, views, parameter="top", attempt=0):
    return Keys(seed, epoch, np.arange(N), views, "crop").uniform(parameter, attempt)[:, 0]


@pytest.mark.parametrize(("a", "b"), list(neighbors()))
def test_uniforms__of_neighboring_keys_are_uncorrelated(a, b):
    """Keys that differ in any word give uncorrelated uniforms."""
    assert abs(np.corrcoef(a, b)[0, 1]) < 0.03
    assert (a == b).mean() < 0.01
    assert stats.kstest(a, "uniform").pvalue > P_LEVEL


def test_uniforms__of_chosen_entries_are_those_of_all():
    """Drawing for a mask gives the same numbers as drawing for all entries."""
    keys = Keys(1, 2, np.arange(50), range(3), "crop")
    mask = np.random.default_rng(0).random((50, 3)) < 0.3
    np.testing.assert_array_equal(keys.uniform("top", 4, mask), keys.uniform("top", 4)[mask])


def test_draws__are_pinned():
    """The numbers of a seed are the same for every machine, process and version."""
    uniforms = Keys(2**63 + 5, 7, np.array([0, 1, 10**9]), (0, 199), "crop").uniform("top")
    assert uniforms.dtype == np.float32
    np.testing.assert_array_equal((uniforms * 2**24).astype(int), PINNED)
    table = draw(RandomResizedCrop(224), n=3, seed=11)
    assert [
        [int(table[column][i, 0]) for column in ("top", "left", "height", "width")]
        for i in range(3)
    ] == PINNED_BOXES


PINNED = [[8884709, 10401745], [12836215, 11145558], [10554441, 15572184]]
PINNED_BOXES = [[81, 224, 253, 225], [21, 82, 203, 254], [116, 31, 190, 146]]


def test_draws__do_not_depend_on_the_process():
    """Two interpreters with different hash seeds draw the same numbers."""
    program = (
        "import numpy as np; from ffcv_ssl.transforms.keys import Keys;"
        "print(Keys(1, 2, np.arange(5), range(3), 'jitter').uniform('hue').tobytes().hex())"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in "12"
    }
    assert outputs == {
        (
            Keys(1, 2, np.arange(5), range(3), "jitter").uniform("hue").tobytes().hex() + "\n"
        ).encode()
    }


def test_transform_seed__replaces_the_loaders():
    """A transform with its own seed ignores the loader's seed, but not the epoch."""
    first, second = (
        draw(RandomHorizontalFlip(0.5, seed=9), seed=seed)["applied"] for seed in (1, 2)
    )
    np.testing.assert_array_equal(first, second)
    assert (draw(RandomHorizontalFlip(0.5, seed=9), epoch=1)["applied"] != first).any()


BAD = [
    lambda: RandomHorizontalFlip(1.5),
    lambda: RandomGrayscale(-0.1),
    lambda: GaussianBlur(0.5, kernel_size=4),
    lambda: GaussianBlur(0.5, sigma=(2.0, 0.1)),
    lambda: RandomColorJitter(hue=0.6),
    lambda: RandomColorJitter(brightness=-1),
    lambda: RandomSolarization(0.5, threshold=300),
    lambda: RandomResizedCrop(0),
    lambda: RandomResizedCrop(32.5),
    lambda: RandomResizedCrop(32, scale=(0.5, 1.5)),
    lambda: RandomResizedCrop(32, interpolation="lanczos"),
    lambda: RandomPatchCrop(32, patch=0),
    lambda: CenterCrop(32, ratio=0),
    lambda: RandomHorizontalFlip("0.5"),
    lambda: GaussianBlur(0.5, kernel_size=3.5),
    lambda: NormalizeImage(128, 64, np.uint8),
    lambda: NormalizeImage((0.5, 0.5, 0.5), (0.2, 0.2, 0.2)),
    lambda: NormalizeImage((1, 2, 3, 4), 5),
    lambda: MultiView(RandomHorizontalFlip(), n=2),
    lambda: MultiView([RandomHorizontalFlip()]),
]


@pytest.mark.parametrize("make", BAD)
def test_bad_argument__is_rejected_when_the_transform_is_built(make):
    """The error names the transform."""
    with pytest.raises(
        PipelineError,
        match=r"RandomHorizontalFlip|RandomGrayscale|GaussianBlur|RandomColorJitter|RandomSolarization|Crop|NormalizeImage|MultiView",
    ):
        make()


def test_fixed_patch_crop__uses_the_given_position():
    """`place` is a fraction of the free space; `patch` is in pixels or a fraction of the area."""

    def box(height, width, **options):
        table = draw(FixedPatchCrop(8, **options), height, width, n=3, views=(0, 1))
        assert all(
            (column == column[0, 0]).all() and column.shape == (3, 2) for column in table.values()
        )
        return tuple(int(table[name][0, 0]) for name in ("top", "left", "height", "width"))

    assert box(32, 32, patch=16, place=(0.125, 1.0)) == (2, 16, 16, 16)
    assert [box(32, 32, patch=16, place=(i / 8, 0.0))[0] for i in range(9)] == [
        0,
        2,
        4,
        6,
        8,
        10,
        12,
        14,
        16,
    ]
    assert box(40, 20, patch=0.25, place=(1.0, 0.5)) == (20, 5, 20, 10)
    assert box(10, 50, patch=16, place=(0.5, 0.5)) == (0, 17, 10, 16)
    for wrong in ({"patch": 0}, {"patch": 2.5}, {"place": (0.5, 1.5)}):
        with pytest.raises(PipelineError, match="FixedPatchCrop"):
            FixedPatchCrop(8, **wrong)


EVERY_TRANSFORM = [
    RandomResizedCrop(16),
    RandomPatchCrop(16, patch=8),
    RandomHorizontalFlip(0.5),
    RandomColorJitter(0.5),
    RandomGrayscale(0.5),
    GaussianBlur(0.5),
    RandomSolarization(0.5),
]


@pytest.mark.parametrize("seed", [None, 9])
@pytest.mark.parametrize(
    "transform", EVERY_TRANSFORM, ids=lambda transform: type(transform).__name__
)
def test_occurrences__draw_different_values_in_every_column(transform, seed):
    """The occurrences of a sample draw different values in every column.

    The first occurrence draws the same values as a sample that occurs once.
    """
    transform = replace(transform, seed=seed)
    sizes = np.broadcast_to(np.array([60, 80], np.int32), (N, 2))
    tables = []
    for occurrences in (None, np.zeros(N, int), np.ones(N, int), np.full(N, 2), np.full(N, 10**12)):
        tables.append({})
        keys = Keys(3, 4, np.arange(N), (0, 1), occurrences=occurrences).for_transform(
            transform.name, transform.seed
        )
        transform.draw(keys, sizes, tables[-1])
    for column in transform.parameters:
        drawn = [np.broadcast_to(table[column], (N, 2)).astype(float) for table in tables]
        np.testing.assert_array_equal(drawn[1], drawn[0])
        if drawn[0].std() == 0:  # the fixed size of a patch
            continue
        for i, j in itertools.combinations(range(1, 5), 2):
            assert abs(np.corrcoef(drawn[i][:, 0], drawn[j][:, 0])[0, 1]) < 0.03
        assert (
            abs(np.corrcoef(drawn[2][:, 0], drawn[0][:, 1])[0, 1]) < 0.03
        )  # occurrence 1 is not view 1


def test_occurrences__of_some_samples_do_not_affect_the_others():
    """In a batch of first and later occurrences every row depends only on its own key."""
    ids, occurrences = np.array([5, 5, 6, 5]), np.array([0, 1, 0, 7])
    uniforms = Keys(1, 2, ids, range(3), "crop", occurrences).uniform("top")
    for row, (sample_id, occurrence) in enumerate(zip(ids, occurrences, strict=True)):
        alone = Keys(1, 2, np.array([sample_id]), range(3), "crop", np.array([occurrence])).uniform(
            "top"
        )
        np.testing.assert_array_equal(uniforms[row], alone[0])
    assert len(np.unique(uniforms)) == uniforms.size
    assert (uniforms[:, 0] * 2**24).astype(int).tolist() == PINNED_OCCURRENCES


PINNED_OCCURRENCES = [4003273, 7194913, 16687652, 10335555]
