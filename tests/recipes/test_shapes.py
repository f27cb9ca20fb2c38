"""The drawn image set: deterministic, balanced, and solvable by shape only."""

import pickle

import numpy as np
import pytest

from ffcv_ssl.errors import SourceError
from ffcv_ssl.fields import IntField, RGBImageField
from ffcv_ssl.recipes.demo.shapes import CLASSES, ShapesDataset, draw, two_tones


def drawn(num_samples, seed=0, size=32):
    """(N, H, W, 3) float32 images and (N,) labels."""
    images, labels = zip(*ShapesDataset(num_samples, seed, size), strict=True)
    return np.stack(images).astype(np.float32), np.array(labels)


def knn_accuracy(train, train_labels, test, test_labels, k=20):
    """Share of test rows whose k nearest training rows, by cosine, vote for their class."""
    train, test = (
        features / np.linalg.norm(features, axis=1, keepdims=True) for features in (train, test)
    )
    nearest = np.argsort(-(test @ train.T), axis=1)[:, :k]
    votes = (train_labels[nearest][..., None] == np.arange(len(CLASSES))).sum(axis=1)
    return (votes.argmax(axis=1) == test_labels).mean()


def linear_accuracy(train, train_labels, test, test_labels):
    """Share of test rows that a least-squares classifier gets right."""
    with_bias = [np.column_stack([features, np.ones(len(features))]) for features in (train, test)]
    targets = np.eye(len(CLASSES))[train_labels]
    weights = np.linalg.lstsq(with_bias[0], targets, rcond=None)[0]
    return ((with_bias[1] @ weights).argmax(axis=1) == test_labels).mean()


@pytest.fixture(scope="module")
def sets():
    """1,500 training and 500 test images with labels."""
    return *drawn(1500, seed=0), *drawn(500, seed=1)


def test_shapes__samples_depend_on_seed_and_index_only():
    """A sample is the same in any set and after any other, and differs for another seed or index."""  # noqa: E501
    long, short = ShapesDataset(10**6, seed=7), ShapesDataset(12, seed=7)
    assert np.array_equal(long[11][0], short[11][0])
    assert np.array_equal(short[11][0], short[11][0])
    assert not np.array_equal(short[11][0], short[1][0])
    assert not np.array_equal(short[11][0], ShapesDataset(12, seed=8)[11][0])
    assert not np.array_equal(ShapesDataset(12, seed=10)[0][0], ShapesDataset(12, seed=0)[10][0])


def test_shapes__samples_are_images_with_cyclic_labels():
    """Images are (size, size, 3) uint8, and sample i has label i mod 10."""
    shapes = ShapesDataset(25, size=40)
    samples = list(shapes)
    assert len(samples) == len(shapes) == 25
    assert all(image.shape == (40, 40, 3) and image.dtype == np.uint8 for image, _ in samples)
    assert [label for _, label in samples] == [index % 10 for index in range(25)]
    assert len(shapes.class_names) == len(set(shapes.class_names)) == 10


def test_shapes__indices_outside_are_errors():
    """Neither the end nor a negative index wraps around."""
    for index in (-1, 3):
        with pytest.raises(IndexError):
            ShapesDataset(3)[index]


def test_shapes__every_class_draws_the_same_nuisance():
    """From equal generators two classes get equal backgrounds, and leave the generators in equal
    states.
    """
    generators = [np.random.default_rng(5) for _ in CLASSES]
    images = [
        draw(rng, *parts, 32) for rng, parts in zip(generators, CLASSES.values(), strict=True)
    ]
    assert len({rng.uniform() for rng in generators}) == 1
    common = np.all([(image == images[0]).all(axis=2) for image in images], axis=0)
    assert 0.2 < common.mean() < 0.8  # the background; the shapes differ
    for a, image in enumerate(images):
        for other in images[:a]:
            assert np.abs(image.astype(int) - other).mean() > 3


def test_shapes__tones_are_apart():
    """The two tones of a shape differ in mean by 90 gray levels, give or take their tints."""
    rng = np.random.default_rng(0)
    contrasts = np.array([np.subtract(*two_tones(rng).mean(axis=1)) for _ in range(500)])
    assert np.abs(contrasts).min() > 90 - 5 * 25 * np.sqrt(2 / 3)
    assert 0.4 < (contrasts > 0).mean() < 0.6


def test_shapes__another_size_is_the_same_picture():
    """A 64 pixel drawing, averaged to 32 pixels, is close to the 32 pixel drawing."""
    small, large = drawn(20)[0], drawn(20, size=64)[0]
    averaged = large.reshape(20, 32, 2, 32, 2, 3).mean(axis=(2, 4))
    assert np.abs(averaged - small).mean() < 4
    assert np.abs(averaged - small[::-1]).mean() > 20


def test_shapes__mean_colour_says_nothing(sets):
    """kNN and a linear classifier on the mean color stay near the chance of 10 %."""
    train, train_labels, test, test_labels = sets
    colors = [images.mean(axis=(1, 2)) - 128 for images in (train, test)]
    assert knn_accuracy(colors[0], train_labels, colors[1], test_labels) < 0.16
    assert linear_accuracy(colors[0], train_labels, colors[1], test_labels) < 0.16


def test_shapes__raw_pixels_say_little(sets):
    """kNN on centered pixels finds less than 35 %, a linear classifier less than 25 %."""
    train, train_labels, test, test_labels = sets
    pixels = [images.reshape(len(images), -1) - 128 for images in (train, test)]
    assert 0.1 < knn_accuracy(pixels[0], train_labels, pixels[1], test_labels) < 0.35
    assert linear_accuracy(pixels[0], train_labels, pixels[1], test_labels) < 0.25


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [((0,), "num_samples"), ((3, -1), "seed"), ((3, 2**64), "seed"), ((3, 0, 4), "size")],
)
def test_shapes__arguments_out_of_range_are_errors(arguments, problem):
    """Each argument is checked when the set is made."""
    with pytest.raises(SourceError, match=problem):
        ShapesDataset(*arguments)


def test_shapes__travels_to_workers_and_names_its_fields():
    """It pickles, and says which fields to write and where they come from."""
    shapes = pickle.loads(pickle.dumps(ShapesDataset(5, seed=3)))
    assert np.array_equal(shapes[4][0], ShapesDataset(5, seed=3)[4][0])
    image_field = RGBImageField()
    fields = shapes.fields(image_field)
    assert list(fields) == ["image", "label"]
    assert fields["image"] is image_field
    assert isinstance(fields["label"], IntField)
    assert shapes.describe() == {"source": "shapes", "num_samples": 5, "seed": 3, "size": 32}
