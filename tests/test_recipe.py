"""Tests of the parts that all recipes share: samples, views and device."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from ffcv_ssl.errors import ConfigError
from ffcv_ssl.fields import IntField, RGBImageField
from ffcv_ssl.recipe import open_loader, subset
from ffcv_ssl.train import CropViews, DataConfig, TrainConfig
from ffcv_ssl.writer import DatasetWriter

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """Write a file of 40 images whose labels are their positions."""
    path = tmp_path_factory.mktemp("recipe") / "images.beton"
    images = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 3), dtype=np.uint8)
    fields = {"image": RGBImageField("raw"), "label": IntField()}
    DatasetWriter(path, fields, num_workers=0, progress=False).from_indexed_dataset(
        [(image, i) for i, image in enumerate(images)]
    )
    return str(path)


def configs(file, seed=0, **data):
    """Return the sections that the training loader needs."""
    return SimpleNamespace(
        data=DataConfig(train=file, workers=0, **data),
        view=CropViews(size=8),
        train=TrainConfig(epochs=1, batch_size=5, seed=seed),
    )


def labels(c):
    """Return the labels of an epoch."""
    with open_loader(c, CPU, 8) as loader:
        return torch.cat([batch.label for batch in loader]).tolist()


def test_subset__is_seeded_and_nested(file):
    """A subset has distinct samples, depends on the seed, and contains the smaller subsets."""
    quarter, again, other, half = (
        subset(configs(file, seed, fraction=f))
        for seed, f in ((0, 0.25), (0, 0.25), (1, 0.25), (0, 0.5))
    )
    assert len(set(quarter)) == 10
    np.testing.assert_array_equal(quarter, again)
    assert set(quarter) != set(other)
    assert set(quarter) < set(half)
    assert subset(configs(file)) is None
    assert len(subset(configs(file, fraction=0.001))) == 1


def test_open_loader__trains_on_the_subset(file):
    """An epoch contains each sample of the subset once."""
    c = configs(file, fraction=0.5)
    assert sorted(labels(c)) == subset(c).tolist()
    assert sorted(labels(configs(file))) == list(range(40))


def test_open_loader__uses_views_and_seed_of_the_configuration(file):
    """Batches are uint8 views (B, V, 3, size, size), in an order given by train.seed."""
    with open_loader(configs(file), CPU, 6) as loader:
        assert loader.seed == 0
        batch = next(iter(loader))
        assert batch.image.shape == (5, 2, 3, 6, 6)
        assert batch.image.dtype == torch.uint8
    assert labels(configs(file, 0)) != labels(configs(file, 1))


def test_open_loader__gpu_rendering_needs_a_gpu(file):
    """data.render=gpu raises in a run on a CPU."""
    with pytest.raises(ConfigError, match=r"on the cpu. Use data.render=cpu"):
        open_loader(configs(file, render="gpu"), CPU, 8)


@pytest.mark.parametrize("fraction", [0.0, 1.5, -1])
def test_data_config__fraction_has_a_range(file, fraction):
    """A fraction outside of (0, 1] raises."""
    with pytest.raises(ConfigError, match="fraction must be in"):
        DataConfig(train=file, fraction=fraction)
