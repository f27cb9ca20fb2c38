"""Tests of the configuration of views, and of views that grow."""

import json
from importlib import import_module

import numpy as np
import pytest
import torch

from ffcv_ssl import views
from ffcv_ssl.errors import ConfigError
from ffcv_ssl.fields import IntField, RGBImageField
from ffcv_ssl.loader import Loader, OrderOption
from ffcv_ssl.train import CropViews, DataConfig, GrowingLoader, ModelConfig, TrainConfig
from ffcv_ssl.writer import DatasetWriter

GROWING = CropViews(size=24, start_size=16, grow_from=1, grow_to=3, grow_by=4)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """Write a file of 12 images of 32 x 32 whose labels are their positions."""
    path = tmp_path_factory.mktemp("views") / "images.beton"
    images = np.random.default_rng(0).integers(0, 256, (12, 32, 32, 3), dtype=np.uint8)
    fields = {"image": RGBImageField("raw"), "label": IntField()}
    DatasetWriter(path, fields, num_workers=0, progress=False).from_indexed_dataset(
        [(image, i) for i, image in enumerate(images)]
    )
    return path


def growing(file):
    """Return a loader of two batches of six images whose views grow."""

    def open_loader(size):
        return Loader(
            file,
            6,
            order=OrderOption.RANDOM,
            seed=3,
            num_workers=0,
            pipelines={"image": GROWING.pipeline(size, GROWING.num_views)},
        )

    return GrowingLoader(open_loader, GROWING.size_at)


def test_size_at__grows_evenly_between_two_epochs():
    """The size is constant, grows linearly in multiples of grow_by, and is constant again."""
    assert [GROWING.size_at(epoch) for epoch in range(5)] == [16, 16, 20, 24, 24]
    large = CropViews(size=224, start_size=160, grow_from=70, grow_to=85)
    sizes = [large.size_at(epoch) for epoch in range(100)]
    assert sizes == sorted(sizes)
    assert set(sizes) == {160, 192, 224}
    assert (sizes[70], sizes[77], sizes[78], sizes[85]) == (160, 192, 192, 224)
    assert CropViews(size=32).size_at(7) == 32


def test_growing_loader__keeps_order_and_seed(file):
    """Each epoch has the views of a loader of that size alone, in the same order."""
    with growing(file) as loader:
        epochs = [[(batch.image, batch.label) for batch in loader] for _ in range(4)]
    assert [epoch[0][0].shape[-1] for epoch in epochs] == [16, 16, 20, 24]
    pipelines = {"image": GROWING.pipeline(20, 2)}
    with Loader(
        file, 6, order=OrderOption.RANDOM, seed=3, num_workers=0, pipelines=pipelines
    ) as plain:
        plain.set_epoch(2)
        for (views, labels), batch in zip(epochs[2], plain, strict=True):
            assert torch.equal(views, batch.image)
            assert torch.equal(labels, batch.label)


def test_growing_loader__resumes_in_the_middle_of_a_grown_epoch(file):
    """A state saved within the third epoch resumes with its next batch at its size."""
    with growing(file) as loader:
        for _ in range(2):
            list(loader)
        batches = iter(loader)
        next(batches)
        state = json.loads(json.dumps(loader.state_dict()))
        wanted = next(batches)
    with growing(file) as loader:
        loader.load_state_dict(state)
        (found,) = list(loader)
        assert torch.equal(found.image, wanted.image)
        assert torch.equal(found.label, wanted.label)
        assert next(iter(loader)).image.shape[-1] == 24


def test_growing_loader__forgets_an_epoch_that_was_left(file):
    """An epoch left early is not continued when the next one has another size."""
    with growing(file) as loader:
        list(loader)
        next(iter(loader))
        assert len(list(loader)) == len(loader) == 2


def test_crop_views__first_and_other_views_may_differ():
    """blur and solarize hold for all views, unless the others have their own values."""
    (same,) = CropViews(num_views=3, blur=0.5).pipeline(16, 3)
    assert [[type(step).__name__ for step in view].count("GaussianBlur") for view in same] == [
        1,
        1,
        1,
    ]
    (apart,) = CropViews(num_views=3, blur=1.0, other_blur=0.0, other_solarize=0.2).pipeline(16, 3)
    names = [[type(step).__name__ for step in view] for view in apart]
    assert ["GaussianBlur" in view for view in names] == [True, False, False]
    assert ["RandomSolarization" in view for view in names] == [False, True, True]


def test_crop_views__crop_only():
    """With all probabilities at zero, a view is a crop."""
    (views,) = CropViews(flip=0, jitter=0, gray=0).pipeline(16, 2)
    assert [[type(step).__name__ for step in view] for view in views] == [["RandomResizedCrop"]] * 2


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"num_views": 0}, "num_views must be at least 1"),
        ({"start_size": 64}, "start_size must be between 1 and size=32"),
        ({"start_size": 16, "grow_from": 5, "grow_to": 2}, "grow_from <= grow_to"),
        ({"start_size": 16}, "grow_from <= grow_to"),
        ({"grow_by": 0}, "grow_by must be at least 1"),
    ],
)
def test_crop_views__bad_values(options, problem):
    """Invalid values raise a ConfigError with the name of the option."""
    with pytest.raises(ConfigError, match=problem):
        CropViews(**options)


@pytest.mark.parametrize("method", ["simclr", "byol", "barlow_twins", "vicreg"])
def test_recipe__has_the_views_of_its_preset(method):
    """The default views of a recipe are those of the preset of the same name."""
    view = import_module(f"ffcv_ssl.recipes.{method}").RECIPE.view()
    assert view.pipeline(32, 2) == getattr(views, method)(32)


def test_unset_options__are_read_as_earlier_versions_wrote_them():
    """0, -1 and the empty string, written by earlier versions, are read as None."""
    old = CropViews(image_size=0, start_size=0, other_blur=-1.0, other_solarize=-1)
    assert old == CropViews(image_size=None, start_size=None, other_blur=None, other_solarize=None)
    assert TrainConfig(epochs=1, batch_size=2, minutes=0.0, threads=0) == TrainConfig(
        epochs=1, batch_size=2
    )
    assert ModelConfig(views_per_forward=0, images_per_forward=0) == ModelConfig()
    assert DataConfig(train="x.beton", val="") == DataConfig(train="x.beton")
